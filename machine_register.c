/* SPDX-License-Identifier: MIT */
/* The machine's entry in the run directory, by which `minivmm net` finds it. */
#include "machine_impl.h"

#include <stdio.h>
#include <string.h>

#include "util/run_dir.h"

_Static_assert(MACHINE_NETS_MAX <= RUN_NICS_MAX, "each NIC is in the entry");

static void describe_nic(const struct machine *machine, unsigned int index, struct run_nic *out)
{
	const struct nic *nic = &machine->nics[index];
	const char *bridge = machine->config->nets[index].net.bridge;
	struct net_identity identity;

	net_identify(nic->net, &identity);
	snprintf(out->name, sizeof(out->name), "net%u", index);
	snprintf(out->type, sizeof(out->type), "%s", identity.type);
	snprintf(out->interface, sizeof(out->interface), "%s", nic->net->ifname);
	snprintf(out->bridge, sizeof(out->bridge), "%s", bridge ? bridge : "");
	strcpy(out->model, "virtio-net");
	strcpy(out->path, nic->net->vhost ? "vhost" : "user");
	memcpy(out->mac, nic->mac, sizeof(out->mac));
	memcpy(out->address, identity.address, sizeof(out->address));
	out->index = (uint32_t)identity.index;
	out->queues = nic->net->queue_count;
	out->mtu = nic->net->mtu;
}

void machine_register(struct machine *machine)
{
	struct run_entry entry = {.nic_count = machine->nic_count};
	const char *name = machine->config->name;

	snprintf(entry.name, sizeof(entry.name), "%s", name ? name : "");
	for (unsigned int i = 0; i < machine->nic_count; i++)
		describe_nic(machine, i, &entry.nics[i]);
	if (run_publish(&entry, &machine->run) < 0)
		return; /* then it is not listed */
	for (unsigned int i = 0; i < machine->nic_count; i++)
		machine->nics[i].live = run_live(machine->run, i);
	machine_warn_of_clash(&entry);
	machine_stats_listen(machine);
}

void machine_unregister(struct machine *machine)
{
	machine_stats_deafen(machine);
	run_withdraw(machine->run);
}

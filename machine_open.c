/* SPDX-License-Identifier: MIT */
#include "machine_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

#include "boot/boot.h"
#include "net/bridge_check.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/util.h"
#include "virtio/blk_limit.h"
#include "vmm/cpuid.h"
#include "vmm/mem.h"

_Static_assert(MACHINE_DISK_BPS_MIN >= BLK_LIMIT_BYTES_MIN &&
	       MACHINE_DISK_RATE_MAX <= BLK_LIMIT_MAX, "iops= and bps=");

/* Where all of it has to be there from the beginning, it is refused later. */
static void warn_of_size(const struct mem_options *mem)
{
	bool is_set_aside = mem->prefault || mem_page_bytes(mem->pages) > 4096;
	struct sysinfo info;

	if (!is_set_aside && sysinfo(&info) == 0 &&
	    mem->len_bytes > (uint64_t)info.totalram * info.mem_unit)
		log_warn("--mem: more memory than this host has; the guest may be killed for it");
}

static int check_size(const struct machine *machine)
{
	const struct machine_config *config = machine->config;
	unsigned int ncpus = topology_count(&config->vm.cpus);
	unsigned int bits = cpuid_phys_bits(machine->kvm.cpuid);

	if (ncpus > machine->kvm.max_vcpus) {
		log_error("--cpus %u: KVM on this host allows at most %u", ncpus,
			  machine->kvm.max_vcpus);
		return -EINVAL;
	}
	if (topology_apic_id(&config->vm.cpus, ncpus - 1) >= machine->kvm.max_vcpu_id) {
		log_error("--cpus %u: sockets and cores of these sizes need APIC ids that KVM on this "
			  "host does not allow (powers of two need the fewest)", ncpus);
		return -EINVAL;
	}
	/* The 64-bit PCI window may lie outside: no BAR is ever put there. */
	if (!mem_fits(config->vm.mem.len_bytes, bits)) {
		log_error("--mem: %llu MiB do not fit the %u address bits of this host's processor",
			  (unsigned long long)(config->vm.mem.len_bytes >> 20), bits);
		return -EINVAL;
	}
	warn_of_size(&config->vm.mem);
	return 0;
}

/* A stock kernel does not fail on a PVM host, it hangs: say so at once. */
static int check_kernel(const struct machine *machine)
{
	if (!machine->kvm.pvm || !boot_info(machine->boot)->is_linux)
		return 0;
	if (machine->config->force) {
		log_warn("this host's KVM is the PVM back end: only Linux kernels built with "
			 "CONFIG_PVM_GUEST start here");
		return 0;
	}
	log_error("%s: this host's KVM is the PVM back end (no VT-x or AMD-V), where only Linux "
		  "kernels built with CONFIG_PVM_GUEST start; use such a kernel with --force, or a "
		  "host with VT-x or AMD-V", machine->config->kernel);
	return -ENOTSUP;
}

static int open_disk(const struct machine_disk *config, const char *name, struct disk *disk)
{
	int r = loop_create(name, &disk->loop);

	if (r < 0)
		return r;
	loop_stay_awake(disk->loop, config->poll_us);
	if (config->iops || config->bps)
		r = blk_limit_create(disk->loop, config->iops, config->bps, &disk->limit);
	if (r < 0)
		log_error("disk %s: cannot limit it: %s", config->blk.path, strerror(-r));
	else
		r = blk_open(disk->loop, &config->blk, &disk->blk);
	if (r < 0) {
		blk_limit_destroy(disk->limit);
		loop_destroy(disk->loop);
	}
	return r;
}

static int open_disks(struct machine *machine)
{
	char name[16];
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < machine->config->disk_count; i++) {
		snprintf(name, sizeof(name), "disk%u", i);
		r = open_disk(&machine->config->disks[i], name, &machine->disks[i]);
		machine->disk_count += r == 0;
	}
	return r;
}

/*
 * What a machine without a name is known by, and what no other running one can have: the disk
 * it writes to, which is locked, or else its interface.
 */
static void default_mac(struct nic *nic, const struct machine_config *config, unsigned int index)
{
	const struct blk_options *disk = &config->disks[0].blk;
	char *path = NULL;

	if (config->name) {
		net_mac_default(nic->mac, config->name, index);
		return;
	}
	if (config->disk_count && !disk->readonly && disk->snapshot != BLK_SNAPSHOT_ON)
		path = realpath(disk->path, NULL);
	net_mac_default(nic->mac, path ? path : nic->net->ifname, index);
	free(path);
}

/* With a pair of queues for each processor these do not wait for each other. */
static int open_net(const struct machine_config *config, unsigned int index, struct net **out)
{
	struct net_options options = config->nets[index].net;

	options.vm_name = config->name;
	options.queues_default = MIN(topology_count(&config->vm.cpus), NET_QUEUES_MAX);
	return net_open(&options, out);
}

/* Once for each bridge, though several cards may be on it. */
static void check_bridge(const struct machine_config *config, unsigned int index)
{
	const char *bridge = config->nets[index].net.bridge;

	for (unsigned int i = 0; bridge && i < index; i++)
		if (config->nets[i].net.bridge && !strcmp(config->nets[i].net.bridge, bridge))
			return;
	if (bridge)
		bridge_check(bridge);
}

static int open_nics(struct machine *machine)
{
	const struct machine_config *config = machine->config;
	char name[16];
	int r;

	for (unsigned int i = 0; i < config->net_count; i++) {
		struct nic *nic = &machine->nics[i];

		r = open_net(config, i, &nic->net);
		if (r < 0)
			return r;
		snprintf(name, sizeof(name), "net%u", i);
		r = loop_create(name, &nic->loop);
		if (r < 0) {
			net_close(nic->net);
			return r;
		}
		loop_stay_awake(nic->loop, config->nets[i].poll_us);
		if (config->nets[i].has_mac)
			memcpy(nic->mac, config->nets[i].mac, sizeof(nic->mac));
		else
			default_mac(nic, config, i);
		machine->nic_count++;
		r = edge_open(nic->net, &config->nets[i].edge, nic->mac, &nic->edge);
		if (r < 0)
			return r;
		check_bridge(config, i);
	}
	return 0;
}

static int open_kernel(struct machine *machine)
{
	const struct machine_config *config = machine->config;
	const struct boot_options options = {
		.kernel = config->kernel,
		.initrd = config->initrd,
		.cmdline = config->cmdline,
		.root_disk = machine->disk_count ? machine->disks[0].blk : NULL,
		.root_readonly = machine->disk_count && config->disks[0].blk.readonly,
		.kernel_cache = config->kernel_cache,
		.no_kaslr = config->no_kaslr,
	};
	int r = boot_open(&options, &machine->boot);

	return r < 0 ? r : check_kernel(machine);
}

static int start_loops(struct machine *machine)
{
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < machine->disk_count; i++)
		r = loop_start(machine->disks[i].loop);
	for (unsigned int i = 0; r == 0 && i < machine->nic_count; i++)
		r = loop_start(machine->nics[i].loop);
	return r;
}

int machine_open(struct machine *machine)
{
	int r;

	r = kvm_init(&machine->kvm);
	if (r < 0)
		return r;
	moment_note(&machine->kvm_ready);
	r = check_size(machine);
	if (r == 0) /* before there are threads, which are where this one is */
		r = pin_threads(&machine->config->pin, topology_count(&machine->config->vm.cpus),
				machine->config->vm.cpus.threads, &machine->pins);
	if (r == 0)
		r = loop_create("main", &machine->loop);
	if (r == 0)
		r = open_disks(machine);
	if (r == 0)
		r = open_kernel(machine);
	if (r == 0)
		r = open_nics(machine);
	if (r == 0)
		r = start_loops(machine);
	moment_note(&machine->opened);
	return r;
}

int machine_close(struct machine *machine)
{
	int r = 0;

	for (unsigned int i = machine->nic_count; i-- > 0;) {
		loop_stop(machine->nics[i].loop);
		edge_close(machine->nics[i].edge);
		net_close(machine->nics[i].net);
		loop_destroy(machine->nics[i].loop);
	}
	boot_close(machine->boot);
	for (unsigned int i = machine->disk_count; i-- > 0;) {
		loop_stop(machine->disks[i].loop);
		if (machine->powered_off && blk_commit(machine->disks[i].blk) < 0)
			r = -EIO;
		if (blk_close(machine->disks[i].blk) < 0)
			r = -EIO;
		blk_limit_destroy(machine->disks[i].limit);
		loop_destroy(machine->disks[i].loop);
	}
	loop_destroy(machine->loop);
	free(machine->pins);
	if (machine->kvm.cpuid)
		kvm_finish(&machine->kvm);
	return r;
}

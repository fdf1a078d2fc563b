/* SPDX-License-Identifier: MIT */
/* As a table: two lines for each NIC, which fit into 80 columns if names are not long. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "cmd/net.h"
#include "cmd/print.h"
#include "util/util.h"

/* Longer names shift their line. */
#define NAME_COLUMNS_MAX 20

struct columns {
	int vm, interface, bridge;
};

/* A machine is called what `minivmm net VM` takes. */
static const char *vm_name(const struct run_entry *entry, char *buf, size_t len)
{
	if (entry->name[0])
		return entry->name;
	snprintf(buf, len, "%u", entry->pid);
	return buf;
}

static const char *interface_name(const struct net_vm *vm, unsigned int nic)
{
	const struct net_view *view = &vm->nics[nic];
	const char *name = view->interface == NET_INTERFACE_FOUND
			   ? view->link.name : vm->found.entry.nics[nic].interface;

	return name[0] ? name : "-";
}

/* Where we do not see, the bridge that was asked for. */
static const char *bridge_name(const struct net_vm *vm, unsigned int nic)
{
	const struct net_view *view = &vm->nics[nic];
	const char *name = view->interface == NET_INTERFACE_FOUND
			   ? view->bridge : vm->found.entry.nics[nic].bridge;

	return name[0] ? name : "-";
}

static void widen(int *column, const char *text)
{
	int len = (int)strlen(text);

	*column = MAX(*column, MIN(len, NAME_COLUMNS_MAX));
}

static void measure(const struct net_vm *vm, struct columns *columns)
{
	char buf[16];

	widen(&columns->vm, vm_name(&vm->found.entry, buf, sizeof(buf)));
	for (unsigned int i = 0; i < vm->found.entry.nic_count; i++) {
		widen(&columns->interface, interface_name(vm, i));
		widen(&columns->bridge, bridge_name(vm, i));
	}
}

static void print_cell(const char *text, int columns)
{
	print_padded(text, columns + 2);
}

/* The first, and how many more there are. */
static void print_addresses(const struct net_view *view)
{
	unsigned int count = view->address_count + view->addresses_left_out;
	char text[INET6_ADDRSTRLEN];

	if (view->interface == NET_INTERFACE_HIDDEN)
		printf("  (other namespace)");
	if (count)
		printf("  %s", inet_ntop(view->addresses[0].family, view->addresses[0].addr, text,
					 sizeof(text)));
	if (count > 1)
		printf(" +%u", count - 1);
	putchar('\n');
}

static void print_count(const struct net_count *count)
{
	char bytes[16], frames[16], dropped[16];

	printf("  %8s  %7s  %5s",
	       count->known ? size_text(count->bytes, bytes, sizeof(bytes)) : "-",
	       count->known ? count_text(count->frames, frames, sizeof(frames)) : "-",
	       count_text(count->dropped, dropped, sizeof(dropped)));
}

static void print_nic(const struct net_vm *vm, unsigned int index, const struct columns *columns)
{
	const struct run_nic *nic = &vm->found.entry.nics[index];
	struct net_count rx, tx;
	char name[16], queues[32], text[NET_MAC_TEXT_BYTES];
	uint8_t mac[6];

	print_cell(vm_name(&vm->found.entry, name, sizeof(name)), columns->vm);
	print_cell(nic->name, 4);
	print_cell(net_link_state(vm, index), 4);
	print_cell(interface_name(vm, index), columns->interface);
	print_cell(bridge_name(vm, index), columns->bridge);
	net_mac(&vm->found.live[index], mac);
	printf("%s", net_mac_text(mac, text));
	print_addresses(&vm->nics[index]);

	printf("  ");
	print_cell(nic->model, 10);
	print_cell(nic->type, 4);
	snprintf(queues, sizeof(queues), "%u %s", nic->queues, net_path(vm, index));
	print_padded(queues, 7);
	net_count_rx(vm, index, &rx);
	net_count_tx(vm, index, &tx);
	print_count(&rx);
	print_count(&tx);
	putchar('\n');
}

static void print_header(const struct columns *columns)
{
	print_cell("VM", columns->vm);
	printf("NIC   LINK  ");
	print_cell("INTERFACE", columns->interface);
	print_cell("BRIDGE", columns->bridge);
	printf("MAC                ADDRESSES\n"
	       "  MODEL       TYPE  QUEUES   GUEST RX  PACKETS  DROPS  GUEST TX  PACKETS  DROPS\n");
}

static void print_vm(const struct net_vm *vm, const struct columns *columns)
{
	char name[16];

	for (unsigned int i = 0; i < vm->found.entry.nic_count; i++)
		print_nic(vm, i, columns);
	if (vm->found.entry.nic_count)
		return;
	print_cell(vm_name(&vm->found.entry, name, sizeof(name)), columns->vm);
	puts("no network interface");
}

void net_print_text(struct net_vm *const *vms, unsigned int count)
{
	struct columns columns = {.vm = 2, .interface = 9, .bridge = 6};

	if (!count) {
		puts("No machine is running.");
		return;
	}
	for (unsigned int i = 0; i < count; i++)
		measure(vms[i], &columns);
	print_header(&columns);
	for (unsigned int i = 0; i < count; i++)
		print_vm(vms[i], &columns);
}

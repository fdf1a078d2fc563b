/* SPDX-License-Identifier: MIT */
/*
 * `minivmm net`: the NICs of the machines that run on this host. Reads the run directory and the
 * kernel's tables; no machine is asked, and none notices.
 */
#include "cmd/net.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/command.h"
#include "cmd/found.h"
#include "util/log.h"
#include "util/util.h"

static const char help[] =
	"Usage: minivmm net [--json] [VM]\n"
	"Show the network interfaces of the machines that run on this host: all, or those of the\n"
	"one with this name or process id. RX and TX are the guest's.\n"
	"\n"
	"      --json      all there is to know, in exact numbers\n"
	"  -h, --help      this help\n"
	"  -V, --version   the version\n"
	"\n"
	"Others' machines are only shown to root, and root's to everybody.\n";

enum {
	OPTION_JSON = 256,
};

static const struct option options[] = {
	{"json", no_argument, NULL, OPTION_JSON},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

/* --- what is shown --- */

void net_mac(const struct run_nic_live *live, uint8_t mac[6])
{
	uint64_t value = counter_get(&live->mac);

	for (int i = 5; i >= 0; i--, value >>= 8)
		mac[i] = (uint8_t)value;
}

const char *net_mac_text(const uint8_t mac[6], char out[NET_MAC_TEXT_BYTES])
{
	snprintf(out, NET_MAC_TEXT_BYTES, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2],
		 mac[3], mac[4], mac[5]);
	return out;
}

const char *net_path(const struct net_vm *vm, unsigned int nic)
{
	const char *path = vm->found.entry.nics[nic].path;

	if (!strcmp(path, "vhost") && counter_get(&vm->found.live[nic].vhost_left))
		return "user";
	return path;
}

/*
 * The host's view, if vhost may have moved frames past minivmm, now or before it left that to us;
 * it is the other way round.
 */
static void count(const struct net_vm *vm, unsigned int nic, const struct run_frames *own,
		  const struct link_traffic *of_host, struct net_count *out)
{
	bool found = vm->nics[nic].interface == NET_INTERFACE_FOUND;

	if (strcmp(vm->found.entry.nics[nic].path, "vhost") != 0)
		*out = (struct net_count){true, counter_get(&own->frames), counter_get(&own->bytes), 0};
	else if (found)
		*out = (struct net_count){true, of_host->packets, of_host->bytes, 0};
	else
		*out = (struct net_count){0};
}

/* What the kernel dropped did not reach minivmm. */
void net_count_rx(const struct net_vm *vm, unsigned int nic, struct net_count *out)
{
	const struct run_frames *own = &vm->found.live[nic].rx;
	const struct link_traffic *of_host = &vm->nics[nic].link.tx;

	count(vm, nic, own, of_host, out);
	out->dropped = counter_get(&own->dropped) + of_host->dropped;
}

/* What the interface refused both have counted; the rest only one of them. */
void net_count_tx(const struct net_vm *vm, unsigned int nic, struct net_count *out)
{
	const struct run_frames *own = &vm->found.live[nic].tx;
	const struct link_traffic *of_host = &vm->nics[nic].link.rx;
	uint64_t dropped = counter_get(&own->dropped);
	uint64_t both = counter_get(&vm->found.live[nic].tx_refused);

	count(vm, nic, own, of_host, out);
	if (vm->nics[nic].interface == NET_INTERFACE_FOUND)
		dropped -= MIN(both, dropped);
	out->dropped = dropped + of_host->dropped;
}

const char *net_link_state(const struct net_vm *vm, unsigned int nic)
{
	const struct net_view *view = &vm->nics[nic];

	if (view->interface == NET_INTERFACE_GONE)
		return "gone";
	if (!counter_get(&vm->found.live[nic].link) ||
	    (view->interface == NET_INTERFACE_FOUND && !view->link.up))
		return "down";
	return "up";
}

/* --- which machines --- */

struct list {
	struct run_reader reader;
	const char *wanted; /* or NULL */
	struct net_vm **vms;
	unsigned int count, room;
	bool no_memory;
};

static int make_room(struct list *list)
{
	unsigned int room = list->room ? list->room * 2 : 16;
	struct net_vm **vms;

	if (list->count < list->room)
		return 0;
	vms = realloc(list->vms, room * sizeof(struct net_vm *));
	if (!vms)
		return -ENOMEM;
	list->vms = vms;
	list->room = room;
	return 0;
}

static void found(struct run_reader *reader, const struct run_found *found)
{
	struct list *list = CONTAINER_OF(reader, struct list, reader);
	struct net_vm *vm;

	if (!found_is(&found->entry, list->wanted))
		return;
	vm = make_room(list) < 0 ? NULL : calloc(1, sizeof(*vm));
	if (!vm) {
		list->no_memory = true;
		return;
	}
	vm->found = *found;
	list->vms[list->count++] = vm;
}

static int compare(const void *a, const void *b)
{
	return found_order(&(*(struct net_vm *const *)a)->found.entry,
			   &(*(struct net_vm *const *)b)->found.entry);
}

static int read_list(struct list *list)
{
	int r = run_read(&list->reader);

	if (r < 0 || list->no_memory) {
		log_error("net: %s", strerror(ENOMEM));
		return -ENOMEM;
	}
	if (list->reader.unreadable)
		log_warn("net: left out what could not be read in the run directory, of another "
			 "version of minivmm or of none: %u", list->reader.unreadable);
	if (list->wanted && !list->count) {
		found_none("net", list->wanted);
		return -ENOENT;
	}
	if (list->count)
		qsort(list->vms, list->count, sizeof(struct net_vm *), compare);
	return 0;
}

static int look_at_all(struct list *list)
{
	struct host *host;
	int r;

	if (!list->count)
		return 0;
	r = host_open(&host);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < list->count; i++)
		host_look(host, list->vms[i]);
	host_close(host);
	return 0;
}

static int show(const char *wanted, bool json)
{
	struct list list = {.reader.found = found, .wanted = wanted};
	int r = read_list(&list);

	if (!r)
		r = look_at_all(&list);
	if (!r) {
		if (json)
			net_print_json(list.vms, list.count);
		else
			net_print_text(list.vms, list.count);
		r = command_flush();
	}
	for (unsigned int i = 0; i < list.count; i++)
		free(list.vms[i]);
	free(list.vms);
	return r < 0 ? COMMAND_FAILED : COMMAND_OK;
}

int main(int argc, char **argv)
{
	static char name[] = "net";
	bool json = false;
	int option;

	argv[0] = name;
	while ((option = command_getopt(argc, argv, ":hV", options, help)) != -1) {
		if (option == '?')
			return COMMAND_USAGE;
		json = true;
	}
	if (command_operands("nothing", argc, argv, 0, 1) < 0)
		return COMMAND_USAGE;
	return show(argv[optind], json);
}

/* SPDX-License-Identifier: MIT */
/* `minivmm bridge list` */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd/bridge.h"
#include "net/bridge/dhcp.h"
#include "util/log.h"

static const char help[] =
	"Usage: minivmm bridge list\n"
	"Say which bridges minivmm bridge up has set up, and which interfaces are on them.\n";

static const struct option options[] = {
	COMMAND_OPTIONS_END,
};

struct list {
	struct bridge_run run;
	struct mnl_socket *nl;
	unsigned int printed;
};

static const char *dhcp_text(const struct list *list, const char *name, unsigned int did)
{
	if (!(did & BRIDGE_DID_DHCP))
		return "no";
	return dhcp_runs(&list->run, name) ? "yes" : "died";
}

#define LINE "%-15s  %-18s  %-3s  %-4s  %s\n"

static void print(const char *name, const struct bridge_state *state, void *arg)
{
	struct list *list = arg;
	struct bridge_ports ports = {.names = "(gone)"};
	char address[CIDR_TEXT_BYTES];
	struct link_info link;

	if (link_get(list->nl, name, &link) == 0 && link.index == state->index &&
	    bridge_find_ports(link.index, &ports) < 0)
		return;
	cidr_format(&state->address, address);
	if (!list->printed++)
		printf(LINE, "BRIDGE", "ADDRESS", "NAT", "DHCP", "PORTS");
	printf(LINE, name, address, state->did & BRIDGE_DID_NAT ? "yes" : "no",
	       dhcp_text(list, name, state->did), ports.names[0] ? ports.names : "-");
}

static int list_all(void)
{
	struct list list = {.printed = 0};
	int r = bridge_run_open(&list.run, false);

	if (r)
		return r == -ENOENT ? 0 : r;
	r = link_connect(&list.nl);
	if (r)
		log_error("bridge: cannot ask the kernel for its interfaces: %s", strerror(-r));
	else
		r = bridge_run_each(&list.run, print, &list);
	link_disconnect(list.nl);
	bridge_run_close(&list.run);
	return r;
}

int bridge_list(int argc, char **argv)
{
	int option, r;

	while ((option = command_getopt(argc, argv, ":h", options, help)) != -1) {
		if (option == '?')
			return COMMAND_USAGE;
	}
	if (command_operands("nothing", argc, argv, 0, 0) < 0)
		return COMMAND_USAGE;
	r = list_all();
	return command_flush() < 0 || r ? COMMAND_FAILED : COMMAND_OK;
}

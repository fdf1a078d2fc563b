/* SPDX-License-Identifier: MIT */
/* `minivmm bridge SUBCOMMAND ...`: one file per subcommand, and a line for it in bridge.c. */
#pragma once

#include <stdbool.h>

#include "cmd/command.h"
#include "net/bridge/run.h"
#include "net/link.h"

/* As command.h has it. */
int bridge_down(int argc, char **argv);
int bridge_list(int argc, char **argv);
int bridge_up(int argc, char **argv);

/* A bridge to change; while it is open nobody else does. */
struct bridge {
	const char *name;
	struct bridge_run run;
	struct mnl_socket *nl;
	bool known; /* `up` was here before, and `state` is what it did */
	struct bridge_state state;
	bool exists;
	bool same; /* it exists, and is the one of `state` */
	struct link_info link;
};

/* The one operand, a name that can be a bridge's. 0 or -EINVAL; logs. */
int bridge_operand(int argc, char **argv, const char **name);
/* Rights first, then what there is. Changes nothing but the run directory. 0 or -errno; logs. */
int bridge_open(struct bridge *bridge, const char *name);
void bridge_close(struct bridge *bridge);
int bridge_save(const struct bridge *bridge);
/* A line on stdout about what was done, or found. */
void bridge_say(const struct bridge *bridge, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The address, if `up` added it and it is still there. Saves nothing. 0 or -errno; logs. */
int bridge_undo_address(struct bridge *bridge);
/* NAT, and forwarding if nobody else needs it, as far as `up` turned them on. 0 or -errno; logs. */
int bridge_undo_nat(struct bridge *bridge);
int bridge_undo_dhcp(struct bridge *bridge);

/* The interfaces on a bridge. */
struct bridge_ports {
	int bridge;
	unsigned int count, taps;
	char names[128]; /* with ", " between them, and "..." at the end where there are more */
};
/* Those of the bridge with this index. 0 or -errno; logs. */
int bridge_find_ports(int index, struct bridge_ports *out);

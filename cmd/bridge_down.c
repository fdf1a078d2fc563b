/* SPDX-License-Identifier: MIT */
/* `minivmm bridge down` */
#include <errno.h>
#include <string.h>

#include "cmd/bridge.h"
#include "util/log.h"

static const char help[] =
	"Usage: minivmm bridge down NAME [OPTION]...\n"
	"Undo what minivmm bridge up did to bridge NAME, and nothing else: a bridge that was\n"
	"there before stays.\n"
	"\n"
	"      --force   also with guests on it, whose network ends with it\n";

enum {
	OPTION_FORCE = 256,
};

static const struct option options[] = {
	{"force", no_argument, NULL, OPTION_FORCE},
	COMMAND_OPTIONS_END,
};

static int parse(int argc, char **argv, const char **name, bool *force)
{
	int option;

	while ((option = command_getopt(argc, argv, ":h", options, help)) != -1) {
		if (option == '?')
			return -EINVAL;
		*force = true;
	}
	return bridge_operand(argc, argv, name);
}

/* Of a bridge that is to go every port counts, of another only guests'. */
static int check_ports(const struct bridge *bridge)
{
	struct bridge_ports ports;
	int r = bridge_find_ports(bridge->link.index, &ports);

	if (r)
		return r;
	if (!(bridge->state.did & BRIDGE_DID_MAKE ? ports.count : ports.taps))
		return 0;
	log_error("bridge %s: in use by %s (end what uses it, or say --force)", bridge->name,
		  ports.names);
	return -EBUSY;
}

static int check(const struct bridge *bridge, bool force)
{
	if (!bridge->known && bridge->exists) {
		log_error("bridge %s: not one that minivmm bridge up has set up, so it stays "
			  "(minivmm bridge list says which are)", bridge->name);
		return -EPERM;
	}
	if (!bridge->known) {
		log_error("bridge %s: no such bridge (minivmm bridge list says which there are)",
			  bridge->name);
		return -ENODEV;
	}
	return bridge->same && !force ? check_ports(bridge) : 0;
}

static int undo_raise(const struct bridge *bridge)
{
	const struct link_change change = {.fields = LINK_SET_UP, .up = false};
	int r = link_set(bridge->nl, bridge->link.index, &change);

	if (r)
		log_error("bridge %s: cannot be set down: %s", bridge->name, strerror(-r));
	else
		bridge_say(bridge, "set down");
	return r;
}

static int undo_make(const struct bridge *bridge)
{
	int r = link_delete(bridge->nl, bridge->link.index);

	if (r)
		log_error("bridge %s: cannot be removed: %s", bridge->name, strerror(-r));
	else
		bridge_say(bridge, "bridge removed");
	return r;
}

static int undo_link(struct bridge *bridge)
{
	unsigned int did = bridge->state.did;
	int r;

	if (!bridge->same) {
		bridge_say(bridge, "bridge was gone already");
		return 0;
	}
	if (did & BRIDGE_DID_MAKE)
		return undo_make(bridge);
	r = bridge_undo_address(bridge);
	if (!r && (did & BRIDGE_DID_RAISE))
		r = undo_raise(bridge);
	return r;
}

/* What fails leaves the state, so that it can be tried again. */
static int undo(struct bridge *bridge)
{
	int r = bridge_undo_dhcp(bridge);

	if (!r)
		r = bridge_undo_nat(bridge);
	if (!r)
		r = undo_link(bridge);
	return r ? r : bridge_run_remove(&bridge->run, bridge->name);
}

int bridge_down(int argc, char **argv)
{
	struct bridge bridge;
	const char *name;
	bool force = false;
	int r;

	if (parse(argc, argv, &name, &force) < 0)
		return COMMAND_USAGE;
	if (bridge_open(&bridge, name) < 0)
		return COMMAND_FAILED;
	r = check(&bridge, force);
	if (!r)
		r = undo(&bridge);
	bridge_close(&bridge);
	return command_flush() < 0 || r ? COMMAND_FAILED : COMMAND_OK;
}

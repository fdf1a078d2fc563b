/* SPDX-License-Identifier: MIT */
/* --net [KEY=VALUE]... */
#include "options_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/log.h"
#include "util/util.h"

static int parse_bridge(const char *value, struct machine_net *net)
{
	net->net.bridge = value;
	return 0;
}

static int parse_tap(const char *value, struct machine_net *net)
{
	net->net.tap = value;
	return 0;
}

static int add_fd(const char *number, struct net_options *net)
{
	int *fd = &net->fds[net->fd_count];
	int r = options_fd("--net: fd", number, fd);

	for (unsigned int i = 0; r == 0 && i < net->fd_count; i++) {
		if (net->fds[i] == *fd) {
			log_error("--net: fd=: %d is given twice (each queue has a file of its "
				  "own)", *fd);
			r = -EINVAL;
		}
	}
	net->fd_count++;
	return r;
}

/* One file, or several with colons between. */
static int parse_fd(const char *value, struct machine_net *net)
{
	char number[32];
	int r;

	net->net.fd_count = 0;
	for (;;) {
		size_t len = strcspn(value, ":");

		if (net->net.fd_count == NET_QUEUES_MAX) {
			log_error("--net: fd=: at most %u files", NET_QUEUES_MAX);
			return -EINVAL;
		}
		snprintf(number, sizeof(number), "%.*s", (int)len, value);
		r = add_fd(number, &net->net);
		if (r < 0 || !value[len])
			return r;
		value += len + 1;
	}
}

static int parse_queues(const char *value, struct machine_net *net)
{
	uint64_t queues;

	if (parse_uint(value, 1, NET_QUEUES_MAX, &queues) < 0) {
		log_error("--net: queues=%s: a number from 1 to %u is expected", value,
			  NET_QUEUES_MAX);
		return -EINVAL;
	}
	net->net.queues = (unsigned int)queues;
	return 0;
}

static int parse_mac(const char *value, struct machine_net *net)
{
	net->has_mac = net_mac_parse(value, net->mac) == 0;
	if (net->has_mac)
		return 0;
	log_error("--net: mac=%s: not an address a network card can have (six pairs of hex digits "
		  "as 52:54:00:12:34:56, not multicast, not zero)", value);
	return -EINVAL;
}

/* All need a value. */
static const struct {
	const char *name;
	int (*parse)(const char *value, struct machine_net *net);
} net_keys[] = {
	{"bridge", parse_bridge},
	{"tap", parse_tap},
	{"fd", parse_fd},
	{"mac", parse_mac},
	{"queues", parse_queues},
};

static int parse_net_key(struct machine_net *net, const char *key, const char *value)
{
	for (unsigned int i = 0; i < ARRAY_LEN(net_keys); i++) {
		if (strcmp(key, net_keys[i].name) == 0)
			return options_need_value("--net", key, value) < 0 ? -EINVAL :
			       net_keys[i].parse(value, net);
	}
	log_error("--net: unknown key '%s' (see minivmm --help)", key);
	return -EINVAL;
}

int options_net(char *text, struct machine_config *config)
{
	struct machine_net *net = &config->nets[config->net_count];
	char *item, *list = text;

	if (config->net_count == MACHINE_NETS_MAX) {
		log_error("--net: at most %d interfaces", MACHINE_NETS_MAX);
		return -EINVAL;
	}
	while ((item = options_next_item(&list))) {
		char *value = options_split_value(item);

		if (parse_net_key(net, item, value) < 0)
			return -EINVAL;
	}
	if (net->net.fd_count && (net->net.tap || net->net.bridge)) {
		log_error("--net: fd= is an interface already set up: tap= and bridge= do not go "
			  "with it");
		return -EINVAL;
	}
	config->net_count++;
	return 0;
}

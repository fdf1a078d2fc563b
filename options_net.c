/* SPDX-License-Identifier: MIT */
/* --net [KEY=VALUE]... */
#include "options_impl.h"

#include <errno.h>
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

static int parse_fd(const char *value, struct machine_net *net)
{
	return options_fd("--net: fd", value, &net->net.fd);
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
	net->net.fd = -1;
	while ((item = options_next_item(&list))) {
		char *value = options_split_value(item);

		if (parse_net_key(net, item, value) < 0)
			return -EINVAL;
	}
	if (net->net.fd >= 0 && (net->net.tap || net->net.bridge)) {
		log_error("--net: fd= is an interface already set up: tap= and bridge= do not go "
			  "with it");
		return -EINVAL;
	}
	config->net_count++;
	return 0;
}

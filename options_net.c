/* SPDX-License-Identifier: MIT */
/* --net [KEY=VALUE]... */
#include "options_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/log.h"
#include "util/loop.h"
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

	for (;;) {
		size_t len = strcspn(value, ":");

		if (net->net.fd_count == NET_QUEUES_MAX) {
			log_error("--net: fd=: at most %u files", NET_QUEUES_MAX);
			return -EINVAL;
		}
		snprintf(number, sizeof(number), "%.*s", (int)len, value);
		/* Cut off it could be another number: what is too long is taken as it is. */
		r = add_fd(len < sizeof(number) ? number : value, &net->net);
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

static int parse_vhost(const char *value, struct machine_net *net)
{
	static const char *const modes[] = {
		[NET_VHOST_AUTO] = "auto",
		[NET_VHOST_ON] = "on",
		[NET_VHOST_OFF] = "off",
	};

	for (unsigned int i = 0; i < ARRAY_LEN(modes); i++) {
		if (strcmp(value, modes[i]) != 0)
			continue;
		net->net.vhost = (enum net_vhost)i;
		return 0;
	}
	log_error("--net: vhost=%s: auto, on or off is expected", value);
	return -EINVAL;
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

static int parse_user(const char *value, struct machine_net *net)
{
	net->net.user = true;
	if (!value)
		return 0;
	log_error("--net: user=%s: user takes no value (write user,hostfwd=tcp:2222:22)", value);
	return -EINVAL;
}

static int parse_socket(const char *value, struct machine_net *net)
{
	net->net.socket = value;
	return 0;
}

static bool parse_port(const char *text, uint16_t *out)
{
	uint64_t port;

	if (parse_uint(text, 1, UINT16_MAX, &port) < 0)
		return false;
	*out = (uint16_t)port;
	return true;
}

/* As inet_pton(3) takes it; IPv6 may stand in brackets; "" is any. */
static bool parse_addr(char *text, char out[46])
{
	uint8_t addr[sizeof(struct in6_addr)];
	size_t len = strlen(text);

	if (len && text[0] == '[' && text[len - 1] == ']') {
		text[len - 1] = '\0';
		text++;
	}
	snprintf(out, 46, "%s", text);
	return !len || inet_pton(AF_INET, out, addr) == 1 || inet_pton(AF_INET6, out, addr) == 1;
}

/* tcp:[ADDR:]PORT:PORT; or as QEMU has it tcp:[ADDR]:PORT-:PORT. From the end, for IPv6's sake. */
static bool split_forward(char *text, struct net_forward *out)
{
	char *guest, *host;

	out->udp = strncmp(text, "udp:", 4) == 0;
	if (!out->udp && strncmp(text, "tcp:", 4) != 0)
		return false;
	text += 4;
	guest = strrchr(text, ':');
	if (!guest)
		return false;
	*guest++ = '\0';
	if (guest - text >= 2 && guest[-2] == '-')
		guest[-2] = '\0';
	host = strrchr(text, ':');
	if (host)
		*host++ = '\0';
	return parse_port(guest, &out->guest_port) &&
	       parse_port(host ? host : text, &out->host_port) &&
	       parse_addr(host ? text : strchr(text, '\0'), out->host_addr);
}

static int parse_hostfwd(const char *value, struct machine_net *net)
{
	char copy[128];

	if (net->net.forward_count == NET_FORWARDS_MAX) {
		log_error("--net: hostfwd=%s: at most %d of them", value, NET_FORWARDS_MAX);
		return -EINVAL;
	}
	if ((size_t)snprintf(copy, sizeof(copy), "%s", value) < sizeof(copy) &&
	    split_forward(copy, &net->net.forwards[net->net.forward_count])) {
		net->net.forward_count++;
		return 0;
	}
	log_error("--net: hostfwd=%s: not tcp or udp, the host's port and the guest's (write "
		  "tcp:2222:22, or tcp:127.0.0.1:2222:22 with the host's address)", value);
	return -EINVAL;
}

static int parse_monitor(const char *value, struct machine_net *net)
{
	net->edge.monitor = value;
	return 0;
}

static int parse_pcap(const char *value, struct machine_net *net)
{
	net->edge.pcap = value;
	return 0;
}

static int parse_guard(const char *value, struct machine_net *net)
{
	int r = guard_parse(value, &net->edge.guard);

	if (r == -ERANGE)
		log_error("--net: guard=%s: more than %d addresses (a prefix, as 192.0.2.0/24, is "
			  "one)", value, GUARD_ADDRS_MAX);
	else if (r < 0)
		log_error("--net: guard=%s: neither mac nor addresses (write "
			  "guard=192.0.2.7+2001:db8::7, each perhaps with /LENGTH)", value);
	return r < 0 ? -EINVAL : 0;
}

static int parse_rate(const char *value, struct machine_net *net)
{
	uint64_t rate;
	int r = parse_size(value, &rate);

	if (r < 0 || rate < EDGE_RATE_MIN || rate > EDGE_RATE_MAX) {
		log_error("--net: rate=%s: bytes per second from 16K to 1T are expected (without "
			  "rate= there is no limit)", value);
		return -EINVAL;
	}
	net->edge.rate = rate;
	return 0;
}

static int parse_poll(const char *value, struct machine_net *net)
{
	return options_poll("--net", value, &net->poll_us);
}

static int parse_isolated(const char *value, struct machine_net *net)
{
	return options_switch("--net", "isolated", value, &net->edge.isolated);
}

static const struct {
	const char *name;
	int (*parse)(const char *value, struct machine_net *net);
	bool bare; /* else it needs a value */
	bool many; /* else it is given once: hostfwd= adds up, the last vhost= wins */
} net_keys[] = {
	{"bridge", parse_bridge},
	{"tap", parse_tap},
	{"fd", parse_fd},
	{"user", parse_user, .bare = true},
	{"socket", parse_socket},
	{"hostfwd", parse_hostfwd, .many = true},
	{"mac", parse_mac},
	{"queues", parse_queues},
	{"vhost", parse_vhost, .many = true},
	{"monitor", parse_monitor},
	{"pcap", parse_pcap},
	{"guard", parse_guard},
	{"rate", parse_rate},
	{"poll", parse_poll},
	{"isolated", parse_isolated, .bare = true},
};

/* `seen` has a bit for each key that was there before. */
static int parse_net_key(struct machine_net *net, const char *key, const char *value,
			 uint32_t *seen)
{
	unsigned int i = 0;

	while (i < ARRAY_LEN(net_keys) && strcmp(key, net_keys[i].name) != 0)
		i++;
	if (i == ARRAY_LEN(net_keys)) {
		log_error("--net: unknown key '%s' (see minivmm --help)", key);
		return -EINVAL;
	}
	if (*seen & 1u << i && !net_keys[i].many) {
		log_error("--net: %s is given twice (leave one of them out, or write another --net "
			  "for another card)", key);
		return -EINVAL;
	}
	*seen |= 1u << i;
	if (!net_keys[i].bare && options_need_value("--net", key, value) < 0)
		return -EINVAL;
	return net_keys[i].parse(value, net);
}

static bool shares_fd(const struct net_options *a, const struct net_options *b, int *out)
{
	for (unsigned int i = 0; i < a->fd_count; i++) {
		for (unsigned int j = 0; j < b->fd_count; j++) {
			*out = a->fds[i];
			if (a->fds[i] == b->fds[j])
				return true;
		}
	}
	return false;
}

/* What two cards can not have alike. */
static int check_pair(const struct machine_net *a, const struct machine_net *b)
{
	const uint8_t *mac = b->mac;
	int fd;

	if (shares_fd(&a->net, &b->net, &fd)) {
		log_error("--net: fd=: %d is given twice (each card needs a TAP of its own)", fd);
		return -EINVAL;
	}
	if (!a->has_mac || !b->has_mac || memcmp(a->mac, mac, sizeof(a->mac)) != 0)
		return 0;
	log_error("--net: mac=%02x:%02x:%02x:%02x:%02x:%02x is given twice (each card needs an "
		  "address of its own; without mac= it has one)", mac[0], mac[1], mac[2], mac[3],
		  mac[4], mac[5]);
	return -EINVAL;
}

static int check_user(const struct net_options *net)
{
	if (net->user && (net->tap || net->bridge || net->fd_count))
		log_error("--net: user is a network without an interface: tap=, bridge= and fd= "
			  "do not go with it");
	else if (net->user && net->queues > 1)
		log_error("--net: queues=%u: user has one pair of queues", net->queues);
	else if (net->user && net->vhost == NET_VHOST_ON)
		log_error("--net: vhost=on: user has no interface that the kernel could move "
			  "frames to (leave it out, or use bridge= or tap=)");
	else if (!net->user && (net->socket || net->forward_count))
		log_error("--net: %s= goes with user alone (write user,%s=...)",
			  net->socket ? "socket" : "hostfwd", net->socket ? "socket" : "hostfwd");
	else if (net->socket && net->forward_count)
		log_error("--net: hostfwd= does not go with socket=: whoever starts passt there "
			  "tells it (passt --tcp-ports 2222:22)");
	else
		return 0;
	return -EINVAL;
}

int options_net(char *text, struct machine_config *config)
{
	struct machine_net *net = &config->nets[config->net_count];
	char *item, *list = text;
	uint32_t seen = 0;

	if (config->net_count == MACHINE_NETS_MAX) {
		log_error("--net: at most %d interfaces", MACHINE_NETS_MAX);
		return -EINVAL;
	}
	net->poll_us = LOOP_AWAKE_AUTO;
	while ((item = options_next_item(&list))) {
		char *value = options_split_value(item);

		if (parse_net_key(net, item, value, &seen) < 0)
			return -EINVAL;
	}
	if (net->net.fd_count && (net->net.tap || net->net.bridge)) {
		log_error("--net: fd= is an interface already set up: tap= and bridge= do not go "
			  "with it");
		return -EINVAL;
	}
	if (check_user(&net->net) < 0)
		return -EINVAL;
	for (unsigned int i = 0; i < config->net_count; i++)
		if (check_pair(&config->nets[i], net) < 0)
			return -EINVAL;
	config->net_count++;
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What the kernel knows of a NIC's interface: link, bridge, counters; and who was seen behind it.
 * A machine may be in another network namespace; its tables are read once for all that are.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/net.h"
#include "util/log.h"
#include "util/util.h"

struct netns {
	struct netns *next;
	uint64_t inode;
	struct mnl_socket *nl; /* NULL: we do not get in */
	struct neigh *stations, *neighbours;
	unsigned int station_count, neighbour_count;
};

struct host {
	struct netns *namespaces;
};

/* --- namespaces --- */

static int connect_and_read(struct netns *ns)
{
	int r = link_connect(&ns->nl);

	if (!r)
		r = neigh_list(ns->nl, AF_BRIDGE, &ns->stations, &ns->station_count);
	if (!r)
		r = neigh_list(ns->nl, AF_UNSPEC, &ns->neighbours, &ns->neighbour_count);
	return r;
}

/*
 * A socket stays in the namespace it was opened in, and it is all we need there: so the process
 * need not come back. `inode` says that it is still the right one, whoever has that pid now.
 */
static void enter(struct netns *ns, uint32_t pid)
{
	char path[64];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/ns/net", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0 && st.st_ino == ns->inode && setns(fd, CLONE_NEWNET) == 0 &&
	    connect_and_read(ns) < 0) {
		link_disconnect(ns->nl);
		ns->nl = NULL;
	}
	close(fd);
}

static struct netns *add_namespace(struct host *host, uint64_t inode)
{
	struct netns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	ns->inode = inode;
	ns->next = host->namespaces;
	host->namespaces = ns;
	return ns;
}

/* NULL: we do not get in. */
static const struct netns *find_namespace(struct host *host, const struct run_entry *entry)
{
	struct netns *ns = host->namespaces;

	while (ns && ns->inode != entry->netns)
		ns = ns->next;
	if (!ns) {
		ns = add_namespace(host, entry->netns);
		if (ns)
			enter(ns, entry->pid);
	}
	return ns && ns->nl ? ns : NULL;
}

int host_open(struct host **out)
{
	struct host *host = calloc(1, sizeof(*host));
	struct netns *ns = NULL;
	struct stat st;
	int r = -ENOMEM;

	if (host)
		ns = add_namespace(host, stat("/proc/self/ns/net", &st) < 0 ? 0 : st.st_ino);
	if (ns)
		r = connect_and_read(ns);
	if (!r) {
		*out = host;
		return 0;
	}
	log_error("net: cannot ask the kernel for its interfaces: %s", strerror(-r));
	host_close(host);
	return r;
}

void host_close(struct host *host)
{
	struct netns *ns, *next;

	if (!host)
		return;
	for (ns = host->namespaces; ns; ns = next) {
		next = ns->next;
		link_disconnect(ns->nl);
		free(ns->stations);
		free(ns->neighbours);
		free(ns);
	}
	free(host);
}

/* --- interfaces --- */

/* By the index, which no other gets in its place; or by name, if it has the address, too. */
static int find_link(const struct netns *ns, const struct run_nic *nic, struct link_info *out)
{
	int r;

	if (nic->index)
		r = nic->index > INT_MAX ? -ENODEV
					 : link_get_index(ns->nl, (int)nic->index, out);
	else
		r = link_get(ns->nl, nic->interface, out);
	if (!r && strcmp(out->kind, "tun") != 0)
		r = -ENODEV;
	if (!r && !nic->index && memcmp(out->addr, nic->address, sizeof(out->addr)) != 0)
		r = -ENODEV;
	return r;
}

static void find_bridge(const struct netns *ns, struct net_view *view)
{
	struct link_info bridge;

	if (view->link.master && link_get_index(ns->nl, view->link.master, &bridge) == 0)
		memcpy(view->bridge, bridge.name, sizeof(view->bridge));
}

/* --- who is behind it --- */

static bool has_station(const struct net_view *view, const uint8_t mac[6])
{
	for (unsigned int i = 0; i < view->station_count; i++)
		if (memcmp(view->stations[i], mac, 6) == 0)
			return true;
	return false;
}

static void add_station(struct net_view *view, const uint8_t mac[6])
{
	if (has_station(view, mac))
		return;
	if (view->station_count == NET_STATIONS_MAX)
		view->stations_left_out++;
	else
		memcpy(view->stations[view->station_count++], mac, 6);
}

static void find_stations(const struct netns *ns, struct net_view *view)
{
	for (unsigned int i = 0; i < ns->station_count; i++)
		if (ns->stations[i].index == view->link.index)
			add_station(view, ns->stations[i].mac);
}

/* Several interfaces may know the same address. */
static bool has_address(const struct net_view *view, const struct neigh *address)
{
	for (unsigned int i = 0; i < view->address_count; i++)
		if (view->addresses[i].family == address->family &&
		    memcmp(view->addresses[i].addr, address->addr, sizeof(address->addr)) == 0)
			return true;
	return false;
}

static void add_address(struct net_view *view, const struct neigh *address)
{
	if (has_address(view, address))
		return;
	if (view->address_count == NET_ADDRESSES_MAX)
		view->addresses_left_out++;
	else
		view->addresses[view->address_count++] = *address;
}

/* IPv4 first, link-local last. */
static int rank(const struct neigh *address)
{
	if (address->family == AF_INET)
		return 0;
	return address->addr[0] == 0xfe && (address->addr[1] & 0xc0) == 0x80 ? 2 : 1;
}

static int compare_addresses(const void *a, const void *b)
{
	const struct neigh *left = a, *right = b;
	int r = rank(left) - rank(right);

	return r ? r : memcmp(left->addr, right->addr, sizeof(left->addr));
}

static void find_addresses(const struct netns *ns, const uint8_t mac[6], struct net_view *view)
{
	for (unsigned int i = 0; i < ns->neighbour_count; i++) {
		const struct neigh *neighbour = &ns->neighbours[i];

		if (memcmp(neighbour->mac, mac, 6) == 0 || has_station(view, neighbour->mac))
			add_address(view, neighbour);
	}
	qsort(view->addresses, view->address_count, sizeof(view->addresses[0]), compare_addresses);
}

static void look_at(const struct netns *ns, const struct run_nic *nic,
		    const struct run_nic_live *live, struct net_view *view)
{
	uint8_t mac[6];

	view->interface = NET_INTERFACE_NONE;
	if (!nic->interface[0])
		return;
	view->interface = NET_INTERFACE_HIDDEN;
	if (!ns)
		return;
	if (find_link(ns, nic, &view->link) < 0) {
		/* Without an index it may as well be elsewhere. */
		view->interface = nic->index ? NET_INTERFACE_GONE : NET_INTERFACE_HIDDEN;
		return;
	}
	view->interface = NET_INTERFACE_FOUND;
	net_mac(live, mac);
	tc_drops_get(ns->nl, view->link.index, &view->tc_drops); /* else 0, as without tc */
	find_bridge(ns, view);
	find_stations(ns, view);
	find_addresses(ns, mac, view);
}

void host_look(struct host *host, struct net_vm *vm)
{
	const struct run_entry *entry = &vm->found.entry;
	const struct netns *ns = find_namespace(host, entry);

	for (unsigned int i = 0; i < entry->nic_count; i++)
		look_at(ns, &entry->nics[i], &vm->found.live[i], &vm->nics[i]);
}

/* SPDX-License-Identifier: MIT */
/* As JSON: an array of machines. rx and tx are the guest's, but for those under "interface". */
#include <arpa/inet.h>

#include "cmd/json.h"
#include "cmd/net.h"

static json_t *json_mac(const uint8_t mac[6])
{
	char text[NET_MAC_TEXT_BYTES];

	return json_text(net_mac_text(mac, text));
}

static void put_bool(json_t *object, const char *key, bool value)
{
	json_put(object, key, json_boolean(value));
}

static void put_count(json_t *nic, const char *key, const struct net_count *count)
{
	json_t *object = json_object();

	if (count->known) {
		json_put_number(object, "packets", count->frames);
		json_put_number(object, "bytes", count->bytes);
	}
	json_put_number(object, "dropped", count->dropped);
	json_put(nic, key, object);
}

/* What minivmm itself counts. */
static void put_live(json_t *nic, const struct run_nic_live *live)
{
	json_t *control = json_object(), *filter = json_object();

	put_bool(nic, "link", counter_get(&live->link));
	json_put_number(nic, "rx-dropped-by-minivmm", counter_get(&live->rx.dropped));
	json_put_number(nic, "tx-dropped-by-minivmm", counter_get(&live->tx.dropped));
	json_put_number(nic, "rx-filtered", counter_get(&live->rx_filtered));
	json_put_number(control, "commands", counter_get(&live->ctrl_commands));
	json_put_number(control, "refused", counter_get(&live->ctrl_refused));
	json_put(nic, "control", control);
	put_bool(filter, "promiscuous", counter_get(&live->promiscuous));
	put_bool(filter, "all-multicast", counter_get(&live->all_multicast));
	json_put_number(filter, "addresses", counter_get(&live->filter_macs));
	json_put(nic, "filter", filter);
}

static void put_traffic(json_t *interface, const char *key, const struct link_traffic *traffic)
{
	json_t *object = json_object();

	json_put_number(object, "packets", traffic->packets);
	json_put_number(object, "bytes", traffic->bytes);
	json_put_number(object, "dropped", traffic->dropped);
	json_put(interface, key, object);
}

static const char *state_name(enum net_interface state)
{
	switch (state) {
	case NET_INTERFACE_NONE:
		return "none";
	case NET_INTERFACE_HIDDEN:
		return "hidden";
	case NET_INTERFACE_GONE:
		return "gone";
	case NET_INTERFACE_FOUND:
		return "found";
	}
	return "";
}

/* As ip -s link has it. */
static void put_interface(json_t *nic, const struct run_nic *entry, const struct net_view *view)
{
	bool found = view->interface == NET_INTERFACE_FOUND;
	json_t *interface = json_object();

	json_put_text(interface, "state", state_name(view->interface));
	json_put_text(interface, "name", found ? view->link.name : entry->interface);
	json_put_text(interface, "bridge", found ? view->bridge : entry->bridge);
	if (found) {
		json_put_number(interface, "index", (uint64_t)view->link.index);
		json_put_number(interface, "mtu", view->link.mtu);
		put_bool(interface, "up", view->link.up);
		put_traffic(interface, "rx", &view->link.rx);
		put_traffic(interface, "tx", &view->link.tx);
		json_put_number(interface, "dropped-by-filters", view->tc_drops.filters);
		json_put_number(interface, "dropped-by-shaper", view->tc_drops.shaper);
	}
	json_put(nic, "interface", interface);
}

static void put_seen(json_t *nic, const struct net_view *view)
{
	json_t *stations = json_array(), *addresses = json_array();
	char text[INET6_ADDRSTRLEN];

	for (unsigned int i = 0; i < view->station_count; i++)
		json_array_append_new(stations, json_mac(view->stations[i]));
	for (unsigned int i = 0; i < view->address_count; i++) {
		const struct neigh *address = &view->addresses[i];
		json_t *object = json_object();

		json_put_text(object, "address", inet_ntop(address->family, address->addr, text,
							   sizeof(text)));
		json_put(object, "mac", json_mac(address->mac));
		json_array_append_new(addresses, object);
	}
	json_put(nic, "stations", stations);
	json_put_number(nic, "stations-left-out", view->stations_left_out);
	json_put(nic, "addresses", addresses);
	json_put_number(nic, "addresses-left-out", view->addresses_left_out);
}

static json_t *make_nic(const struct net_vm *vm, unsigned int index)
{
	const struct run_nic *entry = &vm->found.entry.nics[index];
	const struct run_nic_live *live = &vm->found.live[index];
	struct net_count rx, tx;
	json_t *nic = json_object();
	uint8_t mac[6];

	net_mac(live, mac);
	net_count_rx(vm, index, &rx);
	net_count_tx(vm, index, &tx);
	json_put_text(nic, "nic", entry->name);
	json_put_text(nic, "model", entry->model);
	json_put_text(nic, "type", entry->type);
	json_put(nic, "mac", json_mac(mac));
	json_put(nic, "mac-at-start", json_mac(entry->mac));
	json_put_text(nic, "state", net_link_state(vm, index));
	json_put_number(nic, "queues", entry->queues);
	json_put_text(nic, "path", net_path(vm, index));
	if (entry->mtu)
		json_put_number(nic, "mtu", entry->mtu);
	put_count(nic, "rx", &rx);
	put_count(nic, "tx", &tx);
	put_live(nic, live);
	put_interface(nic, entry, &vm->nics[index]);
	put_seen(nic, &vm->nics[index]);
	return nic;
}

static json_t *make_vm(const struct net_vm *vm)
{
	const struct run_entry *entry = &vm->found.entry;
	json_t *object = json_object(), *nics = json_array();

	json_put_text(object, "name", entry->name);
	json_put_number(object, "pid", entry->pid);
	json_put_number(object, "uid", vm->found.uid);
	json_put_number(object, "netns", entry->netns);
	for (unsigned int i = 0; i < entry->nic_count; i++)
		json_array_append_new(nics, make_nic(vm, i));
	json_put(object, "nics", nics);
	return object;
}

void net_print_json(struct net_vm *const *vms, unsigned int count)
{
	json_t *root = json_array();

	for (unsigned int i = 0; i < count; i++)
		json_array_append_new(root, make_vm(vms[i]));
	json_print(root);
}

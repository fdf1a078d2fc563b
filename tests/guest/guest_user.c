/* SPDX-License-Identifier: MIT */
/*
 * A host with an address by DHCP: it greets the UDP server at port server=N of its router, prints
 * the answer, and then sends each datagram for port 7 back to where it came from, until one
 * says "end" or the link goes down.
 */
#include <linux/virtio_net.h>

#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/virtio.h"

#define RX 0
#define TX 1
#define BUFFERS 8
#define BUFFER_BYTES 66000
#define HEADER_BYTES sizeof(struct virtio_net_hdr_v1)

#define ETH_IP 0x0800
#define ETH_ARP 0x0806
#define IP_UDP 17
#define PORT_ECHO 7
#define PORT_DHCP_CLIENT 68
#define PORT_DHCP_SERVER 67
#define DHCP_DISCOVER 1
#define DHCP_OFFER 2
#define DHCP_REQUEST 3
#define DHCP_ACK 5

/* All in network order; numbers that are compared only stay so. */
struct eth {
	uint8_t to[6], from[6];
	uint16_t type;
} __attribute__((packed));

struct arp {
	uint16_t hardware, protocol;
	uint8_t hardware_bytes, protocol_bytes;
	uint16_t op;
	uint8_t from_mac[6];
	uint32_t from_ip;
	uint8_t to_mac[6];
	uint32_t to_ip;
} __attribute__((packed));

struct ip {
	uint8_t version_words, tos;
	uint16_t bytes, id, fragment;
	uint8_t ttl, protocol;
	uint16_t checksum;
	uint32_t from, to;
} __attribute__((packed));

struct udp {
	uint16_t from, to, bytes, checksum;
} __attribute__((packed));

struct dhcp {
	uint8_t op, hardware, hardware_bytes, hops;
	uint32_t xid;
	uint16_t seconds, flags;
	uint32_t client, yours, server, relay;
	uint8_t mac[16], names[192];
	uint8_t cookie[4];
	uint8_t options[64];
} __attribute__((packed));

/* What a frame of UDP is, without options. */
struct datagram {
	struct eth eth;
	struct ip ip;
	struct udp udp;
	uint8_t data[];
} __attribute__((packed));

static struct vdev dev;
static struct vqueue rx, tx;
static uint8_t *rx_data, *tx_data;
static uint8_t mac[6], router_mac[6];
static uint32_t address, router;

static uint16_t swap16(unsigned int value)
{
	return (uint16_t)(value << 8 | value >> 8);
}

/* --- frames --- */

static void post(unsigned int i)
{
	vqueue_chain(&rx, (uint16_t)i, &(struct vbuf){rx_data + i * BUFFER_BYTES, BUFFER_BYTES}, 0,
		     1);
	vqueue_offer(&rx, (uint16_t)i);
	vqueue_kick(&rx);
}

/* The frame to be sent next. */
static void *tx_frame(void)
{
	return tx_data + HEADER_BYTES;
}

static void send(uint32_t len)
{
	memset(tx_data, 0, HEADER_BYTES);
	vqueue_chain(&tx, 0, &(struct vbuf){tx_data, HEADER_BYTES + len}, 1, 0);
	vqueue_offer(&tx, 0);
	vqueue_kick(&tx);
	vqueue_wait(&tx);
}

static bool link_up(void)
{
	return read16(dev.config + offsetof(struct virtio_net_config, status)) &
	       VIRTIO_NET_S_LINK_UP;
}

static void answer_arp(const struct eth *eth, const struct arp *asked)
{
	struct eth *reply = tx_frame();
	struct arp *arp = (struct arp *)(reply + 1);

	if (asked->op != swap16(1) || asked->to_ip != address)
		return;
	memset(tx_frame(), 0, 60);
	memcpy(reply->to, eth->from, 6);
	memcpy(reply->from, mac, 6);
	reply->type = swap16(ETH_ARP);
	*arp = *asked;
	arp->op = swap16(2);
	memcpy(arp->from_mac, mac, 6);
	arp->from_ip = address;
	memcpy(arp->to_mac, asked->from_mac, 6);
	arp->to_ip = asked->from_ip;
	send(60);
}

static void take_arp(const struct eth *eth, const struct arp *arp)
{
	if (arp->op == swap16(2) && arp->from_ip == router)
		memcpy(router_mac, arp->from_mac, 6);
	else
		answer_arp(eth, arp);
}

/*
 * The next datagram for `port`, which stays ours until post(*buffer); ARP is answered by the way.
 * NULL when the link went down, or where `until` came true.
 */
static struct datagram *receive(unsigned int port, unsigned int *buffer, bool (*until)(void))
{
	struct vring_used_elem used;
	uint64_t start = rdtsc();

	while (still_patient(start) && link_up()) {
		struct datagram *d;

		if (until && until())
			return NULL;
		if (!vqueue_poll(&rx, &used))
			continue;
		CHECK(used.id < BUFFERS && used.len >= HEADER_BYTES + sizeof(struct eth));
		*buffer = used.id;
		d = (struct datagram *)(rx_data + used.id * BUFFER_BYTES + HEADER_BYTES);
		if (d->eth.type == swap16(ETH_ARP))
			take_arp(&d->eth, (struct arp *)(&d->eth + 1));
		else if (d->eth.type == swap16(ETH_IP) && d->ip.protocol == IP_UDP &&
			 d->ip.version_words == 0x45 && d->udp.to == swap16(port))
			return d;
		post(used.id);
	}
	CHECK(!link_up()); /* else it took too long */
	return NULL;
}

/* --- datagrams --- */

static uint16_t ip_checksum(const struct ip *ip)
{
	const uint8_t *bytes = (const uint8_t *)ip;
	uint32_t sum = 0;

	for (unsigned int i = 0; i < sizeof(*ip); i += 2)
		sum += (uint32_t)bytes[i] << 8 | bytes[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum += sum >> 16;
	return swap16(~sum & 0xffff);
}

/* `len` bytes are in place behind the headers. UDP over IPv4 needs no checksum. */
static void send_datagram(uint32_t to, unsigned int from_port, uint16_t to_port, uint32_t len)
{
	struct datagram *d = tx_frame();

	memset(d, 0, sizeof(*d));
	memset(d->eth.to, 0xff, 6);
	if (to != UINT32_MAX)
		memcpy(d->eth.to, router_mac, 6);
	memcpy(d->eth.from, mac, 6);
	d->eth.type = swap16(ETH_IP);
	d->ip = (struct ip){.version_words = 0x45, .bytes = swap16(28 + len), .ttl = 64,
			    .protocol = IP_UDP, .from = address, .to = to};
	d->ip.checksum = ip_checksum(&d->ip);
	d->udp = (struct udp){swap16(from_port), to_port, swap16(8 + len), 0};
	send(sizeof(*d) + len);
}

/* --- DHCP (RFC 2131) --- */

static void send_dhcp(uint8_t type, uint32_t wanted, uint32_t server)
{
	struct dhcp *dhcp = (struct dhcp *)((struct datagram *)tx_frame())->data;
	uint8_t *option = dhcp->options;

	memset(dhcp, 0, sizeof(*dhcp));
	dhcp->op = dhcp->hardware = 1;
	dhcp->hardware_bytes = 6;
	dhcp->xid = 0x12345678;
	memcpy(dhcp->mac, mac, 6);
	memcpy(dhcp->cookie, "\x63\x82\x53\x63", 4);
	memcpy(option, (uint8_t[]){53, 1, type}, 3);
	option += 3;
	if (wanted) {
		memcpy(option, (uint8_t[]){50, 4}, 2);
		memcpy(option + 2, &wanted, 4);
		memcpy(option + 6, (uint8_t[]){54, 4}, 2);
		memcpy(option + 8, &server, 4);
		option += 12;
	}
	*option = 255;
	send_datagram(UINT32_MAX, PORT_DHCP_CLIENT, swap16(PORT_DHCP_SERVER), sizeof(*dhcp));
}

/* The option's data in a message of `len` bytes, or zeroes. */
static void dhcp_option(const struct dhcp *dhcp, uint32_t len, uint8_t code, void *out,
			uint8_t out_len)
{
	const uint8_t *at = dhcp->options, *end = (const uint8_t *)dhcp + len;

	memset(out, 0, out_len);
	while (end - at >= 2 && at[0] != 255 && end - at >= 2 + at[1]) {
		if (at[0] == code && at[1] >= out_len)
			memcpy(out, at + 2, out_len);
		at += at[0] ? 2 + at[1] : 1;
	}
}

/* The answer of the type wanted: our address; and the router, the server's address, the MTU. */
static uint32_t hear_dhcp(uint8_t type, uint32_t *server, uint16_t *mtu)
{
	unsigned int buffer;
	struct datagram *d = receive(PORT_DHCP_CLIENT, &buffer, NULL);
	struct dhcp *dhcp = (struct dhcp *)d->data;
	uint32_t len, yours;
	uint8_t got;

	CHECK(d);
	len = swap16(d->udp.bytes) - 8u;
	CHECK(dhcp->xid == 0x12345678);
	dhcp_option(dhcp, len, 53, &got, 1);
	CHECK_EQ(got, type);
	dhcp_option(dhcp, len, 54, server, 4);
	dhcp_option(dhcp, len, 3, &router, 4);
	dhcp_option(dhcp, len, 26, mtu, 2);
	yours = dhcp->yours;
	post(buffer);
	return yours;
}

static void print_ip(const char *name, uint32_t ip)
{
	print("%s %u.%u.%u.%u\n", name, ip & 255, ip >> 8 & 255, ip >> 16 & 255, ip >> 24);
}

static void get_address(void)
{
	uint32_t server, wanted;
	uint16_t mtu;

	send_dhcp(DHCP_DISCOVER, 0, 0);
	wanted = hear_dhcp(DHCP_OFFER, &server, &mtu);
	send_dhcp(DHCP_REQUEST, wanted, server);
	address = hear_dhcp(DHCP_ACK, &server, &mtu);
	CHECK(address == wanted && router);
	if (dev.features & BIT(VIRTIO_NET_F_MTU))
		CHECK_EQ(swap16(mtu), read16(dev.config + offsetof(struct virtio_net_config, mtu)));
	print_ip("address", address);
	print_ip("router", router);
	print("mtu %u\n", swap16(mtu));
}

/* --- the rest --- */

static bool router_known(void)
{
	return memcmp(router_mac, "\0\0\0\0\0", 6) != 0;
}

static void find_router(void)
{
	struct eth *eth = tx_frame();
	struct arp *arp = (struct arp *)(eth + 1);
	unsigned int buffer;

	memset(eth, 0, 60);
	memset(eth->to, 0xff, 6);
	memcpy(eth->from, mac, 6);
	eth->type = swap16(ETH_ARP);
	*arp = (struct arp){swap16(1), swap16(ETH_IP), 6, 4, swap16(1), {0}, address, {0}, router};
	memcpy(arp->from_mac, mac, 6);
	send(60);
	CHECK(!receive(0, &buffer, router_known));
}

static void greet(uint16_t port)
{
	struct datagram *d = tx_frame();
	unsigned int buffer;

	memcpy(d->data, "hello", 5);
	send_datagram(router, 4000, swap16(port), 5);
	d = receive(4000, &buffer, NULL);
	CHECK(d);
	d->data[swap16(d->udp.bytes) - 8] = 0;
	print("server says %s\n", (char *)d->data);
	post(buffer);
}

static bool echo_one(void)
{
	struct datagram *reply = tx_frame();
	unsigned int buffer;
	struct datagram *d = receive(PORT_ECHO, &buffer, NULL);
	uint32_t len;
	bool end;

	if (!d) {
		print("link down\n");
		return false;
	}
	len = swap16(d->udp.bytes) - 8u;
	CHECK(len <= BUFFER_BYTES - HEADER_BYTES - sizeof(*d));
	end = len == 3 && memcmp(d->data, "end", 3) == 0;
	memcpy(reply->data, d->data, len);
	send_datagram(d->ip.from, PORT_ECHO, d->udp.from, len);
	post(buffer);
	return !end;
}

void guest_main(void)
{
	become_user();
	rx_data = alloc(BUFFERS * BUFFER_BYTES, 4096);
	tx_data = alloc(BUFFER_BYTES, 4096);
	vdev_find(&dev, VIRTIO_NET, 0);
	vdev_begin(&dev, BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS) | BIT(VIRTIO_NET_F_MTU));
	vqueue_init(&rx, &dev, RX, 0);
	vqueue_init(&tx, &dev, TX, 0);
	vdev_go(&dev);
	for (unsigned int i = 0; i < 6; i++)
		mac[i] = read8(dev.config + i);
	for (unsigned int i = 0; i < BUFFERS; i++)
		post(i);
	get_address();
	find_router();
	greet((uint16_t)param("server", 0));
	print("ready\n");
	while (echo_one())
		;
}

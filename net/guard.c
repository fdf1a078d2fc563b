/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The program sees a frame from its Ethernet header on; the kernel has taken one VLAN tag off. It
 * says TC_ACT_UNSPEC, pass it on to the next filter, or TC_ACT_SHOT, drop it. A load beyond the
 * frame's end would end it with 0, which is a pass too (TC_ACT_OK): so before every load stands a
 * check that the frame is long enough, and what is too short for what it claims to be is dropped.
 *
 * The Ethernet source is the NIC's own address, and ARP's sender hardware address too. With
 * addresses given there is also, and what is neither IPv4, ARP nor IPv6 is dropped:
 *
 *   IPv4  the source is one of them; or it is 0.0.0.0 and this a DHCP request.
 *   ARP   the sender is one of them, or in a probe for conflicts (RFC 5227, sender 0) the target.
 *   IPv6  the source is one of them, or the link-local address made from the MAC (RFC 4291,
 *         appendix A); or it is :: and this what is sent without an address: a solicitation for
 *         a router, one of duplicate address detection (RFC 4862, 5.4.2) for one of them, or an
 *         MLD report (RFC 3590).
 *   ND    a neighbour advertisement is for one of them. No router advertisement.
 *
 * Neighbour discovery counts only with a hop limit of 255 (RFC 4861, 7.1), and a packet with that
 * may here be ICMPv6, TCP or UDP and nothing else: so nothing hides behind an extension header.
 */
#include "net/guard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <string.h>

#include "util/util.h"

/* Offsets in a frame. */
#define SRC 6
#define TYPE 12
#define IP 14 /* the packet */
#define ARP_SENDER (IP + 14)
#define ARP_TARGET (IP + 24)
#define ARP_END (IP + 28)
#define IP4_SRC (IP + 12)
#define IP4_END (IP + 20)
#define IP6_NEXT (IP + 6)
#define IP6_HOPS (IP + 7)
#define IP6_SRC (IP + 8)
#define IP6_END (IP + 40)
#define ND_TARGET (IP6_END + 8)
#define ND_END (IP6_END + 24)

#define PASS ((uint32_t)TC_ACT_UNSPEC)
#define DROP ((uint32_t)TC_ACT_SHOT)

#define ICMP6_ROUTER_SOLICIT 133
#define ICMP6_ROUTER_ADVERT 134
#define ICMP6_NEIGHBOUR_SOLICIT 135
#define ICMP6_NEIGHBOUR_ADVERT 136
#define ICMP6_MLD1_REPORT 131
#define ICMP6_MLD2_REPORT 143

/* --- the text --- */

/* `len` bytes of it. */
static int parse_addr(const char *text, size_t len, struct guard_addr *out)
{
	char addr[INET6_ADDRSTRLEN + sizeof("/128")];
	char *slash;
	uint64_t bits;

	if (len >= sizeof(addr))
		return -EINVAL;
	memcpy(addr, text, len);
	addr[len] = '\0';
	slash = strchr(addr, '/');
	if (slash)
		*slash++ = '\0';
	out->ipv6 = strchr(addr, ':');
	if (inet_pton(out->ipv6 ? AF_INET6 : AF_INET, addr, out->bytes) != 1)
		return -EINVAL;
	bits = out->ipv6 ? 128 : 32;
	if (slash && parse_uint(slash, 0, bits, &bits) < 0)
		return -EINVAL;
	out->bits = (unsigned int)bits;
	return 0;
}

int guard_parse(const char *text, struct guard *out)
{
	struct guard guard = { .on = true };
	size_t len = 0;

	for (bool more = strcmp(text, "mac") != 0; more; text += len + 1) {
		len = strcspn(text, "+");
		more = text[len];
		if (guard.addr_count == GUARD_ADDRS_MAX)
			return -ERANGE;
		if (parse_addr(text, len, &guard.addrs[guard.addr_count++]) < 0)
			return -EINVAL;
	}
	*out = guard;
	return 0;
}

/* --- instructions --- */

#define OPEN UINT32_MAX /* a jump whose target is not known yet */

struct program {
	const struct guard *guard;
	const uint8_t *mac;
	struct sock_filter *code;
	unsigned int count;
};

static void emit(struct program *p, uint16_t code, uint8_t jt, uint8_t jf, uint32_t k)
{
	p->code[p->count++] = (struct sock_filter){ code, jt, jf, k };
}

static void ret(struct program *p, uint32_t verdict)
{
	emit(p, BPF_RET | BPF_K, 0, 0, verdict);
}

/* `size`: BPF_B, BPF_H or BPF_W, in the network's byte order. */
static void load(struct program *p, uint16_t size, uint32_t at)
{
	emit(p, BPF_LD | size | BPF_ABS, 0, 0, at);
}

static void drop_unless(struct program *p, uint32_t value)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, value);
	ret(p, DROP);
}

static void drop_if(struct program *p, uint32_t value)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, value);
	ret(p, DROP);
}

static void drop_shorter(struct program *p, uint32_t bytes)
{
	emit(p, BPF_LD | BPF_W | BPF_LEN, 0, 0, 0);
	emit(p, BPF_JMP | BPF_JGE | BPF_K, 1, 0, bytes);
	ret(p, DROP);
}

/* What is emitted until end_if runs only if what was loaded is `value`. */
static unsigned int begin_if(struct program *p, uint32_t value)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, value);
	emit(p, BPF_JMP | BPF_JA, 0, 0, OPEN);
	return p->count - 1;
}

static void end_if(struct program *p, unsigned int jump)
{
	p->code[jump].k = p->count - jump - 1;
}

/* --- addresses --- */

static uint32_t be32(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
	       bytes[3];
}

/* Run the one instruction that follows only if the address in the frame is this one. */
static void if_address(struct program *p, const struct guard_addr *addr, uint32_t at)
{
	unsigned int first = p->count;

	for (unsigned int bit = 0; bit < addr->bits; bit += 32) {
		unsigned int bits = MIN(addr->bits - bit, 32u);
		uint32_t mask = UINT32_MAX << (32 - bits);

		load(p, BPF_W, at + bit / 8);
		if (bits < 32)
			emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, mask);
		emit(p, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, be32(addr->bytes + bit / 8) & mask);
	}
	for (unsigned int i = first; i < p->count; i++)
		if (BPF_CLASS(p->code[i].code) == BPF_JMP)
			p->code[i].jf = (uint8_t)(p->count - i);
}

static struct guard_addr link_local(const uint8_t mac[6])
{
	return (struct guard_addr){
		.ipv6 = true, .bits = 128,
		.bytes = { 0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe,
			   mac[3], mac[4], mac[5] },
	};
}

/* For each address that the guest may have, of one family: go on with `code`, `k`. */
static void if_listed(struct program *p, bool ipv6, uint32_t at, uint16_t code, uint32_t k)
{
	const struct guard_addr own = link_local(p->mac);

	for (unsigned int i = 0; i <= p->guard->addr_count; i++) {
		const struct guard_addr *addr =
			i < p->guard->addr_count ? &p->guard->addrs[i] : &own;

		if (addr->ipv6 != ipv6)
			continue;
		if_address(p, addr, at);
		emit(p, code, 0, 0, k);
	}
}

static void pass_if_listed(struct program *p, bool ipv6, uint32_t at)
{
	if_listed(p, ipv6, at, BPF_RET | BPF_K, PASS);
}

static void drop_unless_listed(struct program *p, bool ipv6, uint32_t at)
{
	unsigned int first = p->count;

	if_listed(p, ipv6, at, BPF_JMP | BPF_JA, OPEN);
	ret(p, DROP);
	for (unsigned int i = first; i < p->count; i++)
		if (p->code[i].code == (BPF_JMP | BPF_JA))
			p->code[i].k = p->count - i - 1;
}

static bool has(const struct guard *guard, bool ipv6)
{
	for (unsigned int i = 0; i < guard->addr_count; i++)
		if (guard->addrs[i].ipv6 == ipv6)
			return true;
	return false;
}

/* --- protocols: all but check_mac and check_discovery end with a verdict --- */

static void check_mac(struct program *p, uint32_t at)
{
	load(p, BPF_W, at);
	drop_unless(p, be32(p->mac));
	load(p, BPF_H, at + 4);
	drop_unless(p, (uint32_t)p->mac[4] << 8 | p->mac[5]);
}

static void check_arp(struct program *p)
{
	unsigned int probe;

	drop_shorter(p, ARP_END);
	load(p, BPF_W, IP);
	drop_unless(p, 1 << 16 | ETH_P_IP); /* Ethernet and IPv4 */
	load(p, BPF_H, IP + 4);
	drop_unless(p, 6 << 8 | 4); /* the lengths of their addresses */
	check_mac(p, IP + 8);
	if (!p->guard->addr_count) {
		ret(p, PASS);
		return;
	}
	load(p, BPF_W, ARP_SENDER);
	probe = begin_if(p, INADDR_ANY);
	pass_if_listed(p, false, ARP_TARGET);
	ret(p, DROP);
	end_if(p, probe);
	pass_if_listed(p, false, ARP_SENDER);
	ret(p, DROP);
}

static void check_ipv4(struct program *p)
{
	drop_shorter(p, IP4_END);
	pass_if_listed(p, false, IP4_SRC);
	load(p, BPF_W, IP4_SRC);
	drop_unless(p, INADDR_ANY);
	drop_shorter(p, IP4_END + 8);
	load(p, BPF_B, IP);
	drop_unless(p, 4 << 4 | 5); /* without options */
	load(p, BPF_H, IP + 6);
	emit(p, BPF_ALU | BPF_AND | BPF_K, 0, 0, 0x1fff);
	drop_unless(p, 0); /* the first fragment */
	load(p, BPF_B, IP + 9);
	drop_unless(p, IPPROTO_UDP);
	load(p, BPF_W, IP4_END);
	drop_unless(p, 68 << 16 | 67); /* DHCP: from its client to its server */
	ret(p, PASS);
}

/* With a hop limit of 255. Goes on with what may be, as far as this can tell. */
static void check_discovery(struct program *p)
{
	unsigned int icmp, advert;

	load(p, BPF_B, IP6_NEXT);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 3, 0, IPPROTO_ICMPV6);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 2, 0, IPPROTO_TCP);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 1, 0, IPPROTO_UDP);
	ret(p, DROP);
	icmp = begin_if(p, IPPROTO_ICMPV6);
	drop_shorter(p, IP6_END + 1);
	load(p, BPF_B, IP6_END);
	drop_if(p, ICMP6_ROUTER_ADVERT);
	advert = begin_if(p, ICMP6_NEIGHBOUR_ADVERT);
	drop_shorter(p, ND_END);
	drop_unless_listed(p, true, ND_TARGET);
	end_if(p, advert);
	end_if(p, icmp);
}

/* The source is none of the guest's. */
static void check_without_address(struct program *p)
{
	unsigned int next;

	for (uint32_t at = IP6_SRC; at < IP6_SRC + 16; at += 4) {
		load(p, BPF_W, at);
		drop_unless(p, 0);
	}
	load(p, BPF_B, IP6_NEXT);
	next = begin_if(p, IPPROTO_HOPOPTS);
	drop_shorter(p, IP6_END + 9);
	load(p, BPF_H, IP6_END);
	drop_unless(p, IPPROTO_ICMPV6 << 8); /* behind a header of 8 bytes */
	load(p, BPF_B, IP6_END + 8);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, 2, 0, ICMP6_MLD1_REPORT);
	drop_unless(p, ICMP6_MLD2_REPORT);
	ret(p, PASS);
	end_if(p, next);
	drop_unless(p, IPPROTO_ICMPV6);
	drop_shorter(p, IP6_END + 1);
	load(p, BPF_B, IP6_END);
	next = begin_if(p, ICMP6_ROUTER_SOLICIT);
	ret(p, PASS);
	end_if(p, next);
	drop_unless(p, ICMP6_NEIGHBOUR_SOLICIT);
	drop_shorter(p, ND_END);
	drop_unless_listed(p, true, ND_TARGET);
	ret(p, PASS);
}

static void check_ipv6(struct program *p)
{
	unsigned int local;

	drop_shorter(p, IP6_END);
	load(p, BPF_B, IP6_HOPS);
	local = begin_if(p, 255);
	check_discovery(p);
	end_if(p, local);
	pass_if_listed(p, true, IP6_SRC);
	check_without_address(p);
}

unsigned int guard_program(const struct guard *guard, const uint8_t mac[6],
			   struct sock_filter program[GUARD_PROGRAM_MAX])
{
	struct program p = { .guard = guard, .mac = mac, .code = program };
	static const struct {
		uint16_t type;
		bool ipv6;
		void (*check)(struct program *p);
	} packets[] = { { ETH_P_IP, false, check_ipv4 }, { ETH_P_IPV6, true, check_ipv6 } };
	unsigned int type;

	check_mac(&p, SRC);
	load(&p, BPF_H, TYPE);
	type = begin_if(&p, ETH_P_ARP);
	check_arp(&p);
	end_if(&p, type);
	for (unsigned int i = 0; i < ARRAY_LEN(packets); i++) {
		if (!has(guard, packets[i].ipv6))
			continue;
		type = begin_if(&p, packets[i].type);
		packets[i].check(&p);
		end_if(&p, type);
	}
	ret(&p, guard->addr_count ? DROP : PASS);
	return p.count;
}

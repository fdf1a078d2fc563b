/* SPDX-License-Identifier: MIT */
/*
 * The guard's program, run by the kernel (as a socket's filter, which is the same machine as tc's)
 * on frames good and bad, on each of them cut short anywhere, and on a great many that were changed
 * at random, where a model written down the other way round says what is right.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/guard.h"
#include "util/util.h"

#define MAC "\x02\x11\x22\x33\x44\x55"
#define OTHER "\x02\x66\x77\x88\x99\xaa"
#define LINK_LOCAL "fe80::11:22ff:fe33:4455"
#define ROUNDS 40000

enum verdict { DROPPED, PASSED };

static int pair[2] = { -1, -1 };
static struct guard guard;

static int pair_open(void **state)
{
	return socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, pair);
}

static int pair_close(void **state)
{
	close(pair[0]);
	close(pair[1]);
	return 0;
}

static void guard_with(const char *text)
{
	struct sock_filter code[GUARD_PROGRAM_MAX];
	struct sock_fprog program = { .filter = code };

	assert_int_equal(guard_parse(text, &guard), 0);
	program.len = (unsigned short)guard_program(&guard, (const uint8_t *)MAC, code);
	assert_in_range(program.len, 1, GUARD_PROGRAM_MAX);
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &program,
				    sizeof(program)), 0);
}

/* What it returns is, to a socket, how much to keep: all for -1, TC_ACT_SHOT's 2 bytes for a drop.
 * 0, which a load beyond the end gives, is a lost frame, and must never be. */
static enum verdict run(const uint8_t *frame, size_t len)
{
	uint8_t got[256];
	ssize_t kept;

	assert_in_range(len, 14, sizeof(got));
	if (send(pair[0], frame, len, 0) != (ssize_t)len)
		fail_msg("a frame of %zu bytes: a load beyond its end", len);
	kept = recv(pair[1], got, sizeof(got), 0);
	assert_true(kept == 2 || kept == (ssize_t)len);
	return kept == 2 ? DROPPED : PASSED;
}

/* --- frames --- */

struct frame {
	uint8_t bytes[128];
	size_t len;
};

static void add(struct frame *f, const void *bytes, size_t len)
{
	memcpy(f->bytes + f->len, bytes, len);
	f->len += len;
}

static struct frame ethernet(const char *src, uint16_t type)
{
	struct frame f = { .len = 0 };
	uint8_t be[2] = { (uint8_t)(type >> 8), (uint8_t)type };

	add(&f, "\xff\xff\xff\xff\xff\xff", 6);
	add(&f, src, 6);
	add(&f, be, 2);
	return f;
}

static void add_addr(struct frame *f, const char *text)
{
	uint8_t addr[16];
	int family = strchr(text, ':') ? AF_INET6 : AF_INET;

	assert_int_equal(inet_pton(family, text, addr), 1);
	add(f, addr, family == AF_INET ? 4 : 16);
}

static struct frame arp(const char *hw, const char *sender, const char *target)
{
	struct frame f = ethernet(MAC, 0x0806);

	add(&f, "\0\1\x08\0\6\4\0\1", 8);
	add(&f, hw, 6);
	add_addr(&f, sender);
	add(&f, "\0\0\0\0\0\0", 6);
	add_addr(&f, target);
	return f;
}

static struct frame ipv4(const char *src, uint8_t protocol, uint16_t from, uint16_t to)
{
	struct frame f = ethernet(MAC, 0x0800);
	uint8_t ports[8] = { (uint8_t)(from >> 8), (uint8_t)from, (uint8_t)(to >> 8), (uint8_t)to };

	add(&f, "\x45\0\0\x1c\0\0\0\0\x40", 9);
	add(&f, &protocol, 1);
	add(&f, "\0\0", 2);
	add_addr(&f, src);
	add_addr(&f, "198.51.100.1");
	add(&f, ports, sizeof(ports));
	return f;
}

static struct frame ipv6(const char *src, uint8_t next, uint8_t hops)
{
	struct frame f = ethernet(MAC, 0x86dd);

	add(&f, "\x60\0\0\0\0\x18", 6);
	add(&f, &next, 1);
	add(&f, &hops, 1);
	add_addr(&f, src);
	add_addr(&f, "ff02::1");
	return f;
}

static struct frame icmpv6(const char *src, uint8_t type, const char *target)
{
	struct frame f = ipv6(src, 58, 255);

	add(&f, &type, 1);
	add(&f, "\0\0\0\0\0\0\0", 7);
	add_addr(&f, target);
	return f;
}

/* Behind a hop-by-hop header with a router alert (RFC 2710, 3). */
static struct frame mld(const char *src, uint8_t type)
{
	struct frame f = ipv6(src, 0, 1);

	add(&f, "\x3a\0\5\2\0\0\1\0", 8);
	add(&f, &type, 1);
	add(&f, "\0\0\0\0\0\0\1\4\0\0\0", 11);
	add_addr(&f, "ff02::1:ff33:4455");
	return f;
}

/* --- the model --- */

static bool listed(bool is_ipv6, const uint8_t *at)
{
	uint8_t own[16];
	bool any = false;

	inet_pton(AF_INET6, LINK_LOCAL, own);
	for (unsigned int i = 0; i < guard.addr_count; i++) {
		const struct guard_addr *addr = &guard.addrs[i];
		bool same = addr->ipv6 == is_ipv6;

		any |= same;
		for (unsigned int bit = 0; bit < addr->bits; bit++)
			same = same && !((addr->bytes[bit / 8] ^ at[bit / 8]) & 0x80 >> bit % 8);
		if (same)
			return true;
	}
	return is_ipv6 && any && !memcmp(own, at, 16);
}

static bool family_known(bool is_ipv6)
{
	for (unsigned int i = 0; i < guard.addr_count; i++)
		if (guard.addrs[i].ipv6 == is_ipv6)
			return true;
	return false;
}

static bool arp_right(const uint8_t *p, size_t len)
{
	static const uint8_t none[4];

	if (len < 28 || memcmp(p, "\0\1\x08\0\6\4", 6) || memcmp(p + 8, MAC, 6))
		return false;
	return !guard.addr_count || listed(false, memcmp(p + 14, none, 4) ? p + 14 : p + 24);
}

static bool ipv4_right(const uint8_t *p, size_t len)
{
	if (len < 20 || !family_known(false))
		return false;
	if (listed(false, p + 12))
		return true;
	return len >= 28 && !memcmp(p + 12, "\0\0\0\0", 4) && p[0] == 0x45 && !(p[6] & 0x1f) &&
	       !p[7] && p[9] == 17 && !memcmp(p + 20, "\0\x44\0\x43", 4);
}

static bool ipv6_right(const uint8_t *p, size_t len)
{
	static const uint8_t none[16];
	bool local = len >= 40 && p[7] == 255, icmp = local && p[6] == 58;

	if (len < 40 || !family_known(true))
		return false;
	if (local && p[6] != 58 && p[6] != 6 && p[6] != 17)
		return false;
	if (icmp && (len < 41 || p[40] == 134))
		return false;
	if (icmp && p[40] == 136 && (len < 64 || !listed(true, p + 48)))
		return false;
	if (listed(true, p + 8))
		return true;
	if (memcmp(p + 8, none, 16))
		return false;
	if (p[6] == 0)
		return len >= 49 && p[40] == 58 && p[41] == 0 && (p[48] == 131 || p[48] == 143);
	if (p[6] != 58 || len < 41)
		return false;
	return p[40] == 133 || (p[40] == 135 && len >= 64 && listed(true, p + 48));
}

static enum verdict right(const uint8_t *frame, size_t len)
{
	const uint8_t *p = frame + 14;
	uint16_t type = (uint16_t)(frame[12] << 8 | frame[13]);

	if (memcmp(frame + 6, MAC, 6))
		return DROPPED;
	if (type == 0x0806)
		return arp_right(p, len - 14) ? PASSED : DROPPED;
	if (!guard.addr_count)
		return PASSED;
	if (type == 0x0800)
		return ipv4_right(p, len - 14) ? PASSED : DROPPED;
	return type == 0x86dd && ipv6_right(p, len - 14) ? PASSED : DROPPED;
}

/* --- tests --- */

static void expect(enum verdict want, struct frame f, int line)
{
	if (run(f.bytes, f.len) != want)
		fail_msg("line %d: %s", line, want ? "dropped" : "passed");
	for (size_t len = 14; len < f.len; len++)
		if (run(f.bytes, len) != right(f.bytes, len))
			fail_msg("line %d, cut to %zu bytes", line, len);
}

#define PASSES(frame) expect(PASSED, frame, __LINE__)
#define DROPS(frame) expect(DROPPED, frame, __LINE__)

static void test_mac(void **state)
{
	guard_with("mac");
	PASSES(ethernet(MAC, 0x88b5));
	PASSES(ipv4("203.0.113.9", 6, 1, 2));
	PASSES(arp(MAC, "203.0.113.9", "192.0.2.1"));
	DROPS(ethernet(OTHER, 0x88b5));
	DROPS(ethernet("\x02\x11\x22\x33\x44\x54", 0x0800));
	DROPS(ethernet("\x03\x11\x22\x33\x44\x55", 0x0800));
	DROPS(arp(OTHER, "203.0.113.9", "192.0.2.1"));
}

static void test_ipv4(void **state)
{
	guard_with("192.0.2.7+198.51.100.64/26");
	PASSES(ipv4("192.0.2.7", 6, 1, 2));
	PASSES(ipv4("198.51.100.64", 17, 1, 2));
	PASSES(ipv4("198.51.100.127", 17, 1, 2));
	DROPS(ipv4("192.0.2.6", 6, 1, 2));
	DROPS(ipv4("198.51.100.128", 17, 1, 2));
	DROPS(ipv4("198.51.100.63", 17, 1, 2));
	PASSES(ipv4("0.0.0.0", 17, 68, 67));
	DROPS(ipv4("0.0.0.0", 17, 67, 68));
	DROPS(ipv4("0.0.0.0", 6, 68, 67));
	PASSES(arp(MAC, "192.0.2.7", "192.0.2.1"));
	PASSES(arp(MAC, "0.0.0.0", "192.0.2.7"));
	DROPS(arp(MAC, "0.0.0.0", "192.0.2.1"));
	DROPS(arp(MAC, "192.0.2.1", "192.0.2.7"));
	DROPS(ipv6("2001:db8::7", 6, 64));
	DROPS(ipv6(LINK_LOCAL, 6, 64));
	DROPS(ethernet(MAC, 0x88b5));
	DROPS(ethernet(MAC, 0x8100)); /* a second VLAN tag */
	DROPS(ethernet(MAC, 0x0020)); /* a length */
}

static void test_ipv6(void **state)
{
	guard_with("2001:db8::7+2001:db8:5::/61");
	PASSES(ipv6("2001:db8::7", 6, 64));
	PASSES(ipv6(LINK_LOCAL, 17, 255));
	PASSES(ipv6("2001:db8:5:7:1:2:3:4", 17, 1));
	DROPS(ipv6("2001:db8:5:8::1", 17, 1));
	DROPS(ipv6("2001:db8::8", 6, 64));
	DROPS(ipv6("fe80::1", 6, 64));
	DROPS(ipv6("::", 17, 64));
	DROPS(ipv4("192.0.2.7", 6, 1, 2));
	DROPS(ipv4("0.0.0.0", 17, 68, 67));
	DROPS(arp(MAC, "0.0.0.0", "192.0.2.1"));
	PASSES(mld("::", 143));
	PASSES(mld("::", 131));
	PASSES(mld(LINK_LOCAL, 143));
	DROPS(mld("::", 130)); /* a query, which makes a querier of the guest */
	DROPS(mld("fe80::1", 143));
}

static void test_discovery(void **state)
{
	guard_with("2001:db8::7");
	PASSES(icmpv6("::", 135, "2001:db8::7"));
	PASSES(icmpv6("::", 135, LINK_LOCAL));
	PASSES(icmpv6("::", 133, "::"));
	PASSES(icmpv6(LINK_LOCAL, 133, "::"));
	PASSES(icmpv6("2001:db8::7", 135, "2001:db8::1"));
	PASSES(icmpv6("2001:db8::7", 136, "2001:db8::7"));
	PASSES(icmpv6("2001:db8::7", 128, "::"));
	DROPS(icmpv6("::", 135, "2001:db8::1"));
	DROPS(icmpv6("::", 136, "2001:db8::7"));
	DROPS(icmpv6("2001:db8::7", 136, "2001:db8::1"));
	DROPS(icmpv6(LINK_LOCAL, 134, "::"));
	/* an advertisement behind another header: hop-by-hop, destination options, a fragment's */
	DROPS(ipv6("2001:db8::7", 0, 255));
	DROPS(ipv6("2001:db8::7", 60, 255));
	DROPS(ipv6("2001:db8::7", 44, 255));
	PASSES(ipv6("2001:db8::7", 60, 64));
}

static void test_any(void **state)
{
	guard_with("192.0.2.7+::/0");
	PASSES(ipv6("2001:db8:ffff::1", 17, 64));
	PASSES(ipv4("192.0.2.7", 17, 1, 2));
	DROPS(ipv4("192.0.2.8", 17, 1, 2));
	DROPS(icmpv6(LINK_LOCAL, 134, "::"));
}

static void test_at_random(void **state)
{
	static const char *const guards[] = { "mac", "192.0.2.7", "192.0.2.0/28+2001:db8::/33",
		"2001:db8::7", "192.0.2.7+2001:db8::7+0.0.0.0/1+2001:db8:1::/127+::/1+8000::/2" };
	const struct frame bases[] = { ethernet(MAC, 0x88b5), arp(MAC, "192.0.2.7", "192.0.2.1"),
		arp(MAC, "0.0.0.0", "192.0.2.7"), ipv4("192.0.2.7", 6, 1, 2),
		ipv4("0.0.0.0", 17, 68, 67), ipv6("2001:db8::7", 6, 64),
		icmpv6("::", 135, "2001:db8::7"), icmpv6("2001:db8::7", 136, "2001:db8::7"),
		icmpv6(LINK_LOCAL, 133, "::"), mld("::", 143) };
	static const uint8_t bytes[] = { 0, 1, 6, 17, 58, 60, 133, 134, 135, 136, 143, 255 };
	unsigned int verdicts[2] = { 0 };

	srand(1);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct frame f = bases[(unsigned int)rand() % ARRAY_LEN(bases)];
		enum verdict want;

		if (i % (ROUNDS / ARRAY_LEN(guards)) == 0)
			guard_with(guards[i / (ROUNDS / ARRAY_LEN(guards))]);
		for (int changes = rand() % 3; changes > 0; changes--)
			f.bytes[12 + (unsigned int)rand() % (f.len - 12)] = rand() % 2 ?
				bytes[(unsigned int)rand() % ARRAY_LEN(bytes)] : (uint8_t)rand();
		want = right(f.bytes, f.len);
		verdicts[want]++;
		if (run(f.bytes, f.len) != want)
			fail_msg("round %u: %s", i, want ? "dropped" : "passed");
	}
	assert_true(verdicts[PASSED] > ROUNDS / 10 && verdicts[DROPPED] > ROUNDS / 10);
}

static void test_largest(void **state)
{
	char text[512] = "";

	for (unsigned int i = 0; i < GUARD_ADDRS_MAX; i++)
		strcat(text, i ? "+2001:db8::/127" : "2001:db8::/127");
	guard_with(text);
	DROPS(ipv6("2001:db9::", 6, 64));
	PASSES(ipv6("2001:db8::1", 6, 64));
	PASSES(icmpv6("::", 135, "2001:db8::1"));
}

static void test_parse(void **state)
{
	static const char *const bad[] = { "", "+", "mac+192.0.2.7", "192.0.2.7+mac", "MAC",
		"192.0.2", "192.0.2.7+", "+192.0.2.7", "192.0.2.7++192.0.2.8", "192.0.2.7/",
		"192.0.2.7/33",
		"192.0.2.7/-1", "192.0.2.7/x", "2001:db8::/129", "2001:db8::7/64/64", ":", "host",
		"2001:db8:1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc",
		"192.0.2.7 " };
	struct guard out = { .addr_count = 7 };

	for (unsigned int i = 0; i < ARRAY_LEN(bad); i++)
		if (guard_parse(bad[i], &out) != -EINVAL)
			fail_msg("'%s'", bad[i]);
	assert_int_equal(guard_parse("::1+::2+::3+::4+::5+::6+::7+::8+::9", &out), -ERANGE);
	assert_int_equal(out.addr_count, 7); /* not touched */
	assert_int_equal(guard_parse("2001:db8:1111:2222:3333:4444:255.255.255.255/128", &out), 0);
	assert_int_equal(out.addrs[0].bits, 128);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, pair_open, pair_close)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_mac), TEST(test_ipv4), TEST(test_ipv6), TEST(test_discovery),
		TEST(test_any), TEST(test_at_random), TEST(test_largest), TEST(test_parse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

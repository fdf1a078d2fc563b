/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "net/net.h"

static void parses_addresses(void **state)
{
	static const uint8_t want[6] = { 0x02, 0xab, 0xcd, 0xef, 0x00, 0x9f };
	uint8_t mac[6];

	assert_int_equal(net_mac_parse("02:ab:CD:eF:00:9f", mac), 0);
	assert_memory_equal(mac, want, 6);
}

static void refuses_what_is_none(void **state)
{
	static const char *const bad[] = {
		"", ":", "02", "02:ab:cd:ef:00", "02:ab:cd:ef:00:", "02:ab:cd:ef:00:9",
		"02:ab:cd:ef:00:9f:", "02:ab:cd:ef:00:9f:11", "02-ab-cd-ef-00-9f",
		"2:ab:cd:ef:00:9f", "02:ab:cd:ef:00:9g", "02ab:cd:ef:00:9f", " 02:ab:cd:ef:00:9f",
		"00:00:00:00:00:00", /* zero */
		"01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "03:00:00:00:00:00", /* multicast */
		"02:ab:cd:ef:00:\xc3\xa9", "[2:ab:cd:ef:00:9f", "`2:ab:cd:ef:00:9f",
	};
	uint8_t mac[6] = { 1, 2, 3, 4, 5, 6 };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(net_mac_parse(bad[i], mac), -EINVAL);
	assert_memory_equal(mac, "\1\2\3\4\5\6", 6);
}

static void defaults_are_stable_and_local(void **state)
{
	uint8_t a[6], b[6];

	net_mac_default(a, "web", 0);
	net_mac_default(b, "web", 0);
	assert_memory_equal(a, b, 6);
	assert_int_equal(a[0] & 3, 2); /* local, unicast */
	net_mac_default(b, "web", 1);
	assert_memory_not_equal(a, b, 6);
	net_mac_default(b, "web1", 0);
	assert_memory_not_equal(a, b, 6);
	net_mac_default(b, NULL, 0);
	assert_memory_not_equal(a, b, 6);
	assert_int_equal(b[0] & 3, 2);
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, 6);
}

/* 40 bits: among 4096 names a clash has a chance of 1 in 130,000, if the hash is any good. */
static void defaults_do_not_clash(void **state)
{
	static uint8_t macs[4096][6];
	char name[32];

	for (unsigned int i = 0; i < 4096; i++) {
		snprintf(name, sizeof(name), "vm%u", i / 4);
		net_mac_default(macs[i], name, i % 4);
	}
	qsort(macs, 4096, 6, compare);
	for (unsigned int i = 1; i < 4096; i++)
		assert_memory_not_equal(macs[i - 1], macs[i], 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_addresses),
		cmocka_unit_test(refuses_what_is_none),
		cmocka_unit_test(defaults_are_stable_and_local),
		cmocka_unit_test(defaults_do_not_clash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

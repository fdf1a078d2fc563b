/* SPDX-License-Identifier: MIT */
/* Addresses with their subnet, as users write them and as they are put. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "net/cidr.h"
#include "util/util.h"

static struct cidr parsed(const char *text)
{
	struct cidr cidr;

	assert_int_equal(cidr_parse(text, &cidr), 0);
	return cidr;
}

static void reads_what_it_writes(void **state)
{
	static const char *const texts[] = {"0.0.0.0/0", "10.0.0.1/24", "255.255.255.255/32",
					    "192.168.100.200/9"};
	char text[CIDR_TEXT_BYTES];

	for (unsigned int i = 0; i < ARRAY_LEN(texts); i++) {
		struct cidr cidr = parsed(texts[i]);

		cidr_format(&cidr, text);
		assert_string_equal(text, texts[i]);
	}
	cidr_format_addr(0xc0000201, text);
	assert_string_equal(text, "192.0.2.1");
}

static void refuses_the_rest(void **state)
{
	static const char *const texts[] = {
		"", "/", "/24", "1", "10.0.0.1", "10.0.0.1/", "10.0.0.1/33", "10.0.0.1/-1",
		"10.0.0.1/ 8", "10.0.0.1/8 ", "10.0.0.1/8/8", "10.0.0.1/0x8", "10.0.0.1/008",
		"10.0.0/8", "10.0.0.1.1/8", "10.0.0.256/8", " 10.0.0.1/8", "10.0.0.1 /8", "::1/64",
		"255.255.255.2555/8", "10.0.0.1/99999999999999999999",
	};
	struct cidr cidr;

	for (unsigned int i = 0; i < ARRAY_LEN(texts); i++)
		assert_int_equal(cidr_parse(texts[i], &cidr), -EINVAL);
}

static void knows_its_subnet(void **state)
{
	static const struct {
		const char *text;
		uint32_t mask, first, last;
	} cases[] = {
		{"10.1.2.3/24", 0xffffff00, 0x0a010200, 0x0a0102ff},
		{"10.1.2.3/30", 0xfffffffc, 0x0a010200, 0x0a010203},
		{"10.1.2.3/32", 0xffffffff, 0x0a010203, 0x0a010203},
		{"10.1.2.3/8", 0xff000000, 0x0a000000, 0x0affffff},
		{"10.1.2.3/0", 0, 0, 0xffffffff},
	};

	for (unsigned int i = 0; i < ARRAY_LEN(cases); i++) {
		struct cidr cidr = parsed(cases[i].text);

		assert_int_equal(cidr_mask(&cidr), cases[i].mask);
		assert_int_equal(cidr_first(&cidr), cases[i].first);
		assert_int_equal(cidr_last(&cidr), cases[i].last);
	}
}

static void overlaps(void **state)
{
	static const struct {
		const char *a, *b;
		bool overlap;
	} cases[] = {
		{"10.0.0.1/24", "10.0.0.200/24", true},   {"10.0.0.1/24", "10.0.1.1/24", false},
		{"10.0.0.1/8", "10.200.0.1/30", true},    {"10.0.0.5/30", "10.0.0.3/30", false},
		{"10.0.0.1/32", "10.0.0.1/32", true},     {"10.0.0.1/32", "10.0.0.2/32", false},
		{"0.0.0.0/0", "255.255.255.255/32", true}, {"10.0.0.1/31", "10.0.0.2/31", false},
	};

	for (unsigned int i = 0; i < ARRAY_LEN(cases); i++) {
		struct cidr a = parsed(cases[i].a), b = parsed(cases[i].b);

		assert_int_equal(cidr_overlap(&a, &b), cases[i].overlap);
		assert_int_equal(cidr_overlap(&b, &a), cases[i].overlap);
	}
}

static void knows_what_suits_a_bridge(void **state)
{
	static const char *const good[] = {"10.0.0.1/24", "10.0.0.254/24", "10.0.0.1/8",
					   "10.0.0.2/30", "192.168.0.255/23", "223.255.255.254/24"};
	static const char *const bad[] = {"10.0.0.0/24", "10.0.0.255/24", "10.0.0.1/7",
					  "10.0.0.1/31", "10.0.0.1/32", "0.0.0.1/24", "127.0.0.1/8",
					  "224.0.0.1/24", "255.0.0.1/24", "10.0.0.1/0"};

	struct cidr cidr;

	for (unsigned int i = 0; i < ARRAY_LEN(good); i++) {
		cidr = parsed(good[i]);
		assert_null(cidr_unfit(&cidr));
	}
	for (unsigned int i = 0; i < ARRAY_LEN(bad); i++) {
		cidr = parsed(bad[i]);
		assert_non_null(cidr_unfit(&cidr));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_what_it_writes),
		cmocka_unit_test(refuses_the_rest),
		cmocka_unit_test(knows_its_subnet),
		cmocka_unit_test(overlaps),
		cmocka_unit_test(knows_what_suits_a_bridge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

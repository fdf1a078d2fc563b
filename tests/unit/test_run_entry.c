/* SPDX-License-Identifier: MIT */
/* What a machine says of itself, written and read; and what is no such text. */
#include "util/run_entry.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "util/util.h"

static const struct run_entry full = {
	.name = "web 100%\n\x1b[2J\xc3\xa9=",
	.pid = 4711,
	.start = UINT64_MAX,
	.netns = 4026531840,
	.nic_count = 2,
	.nics = {
		{
			.name = "net0", .type = "tap", .interface = "mv0", .bridge = "br0",
			.model = "virtio-net", .path = "user", .mac = {2, 0, 0, 0xab, 0xcd, 0xef},
			.index = UINT32_MAX, .address = {0xfe}, .queues = 4, .mtu = 1500,
		},
		{.name = "net1", .type = "user", .mac = {2}},
	},
};

static void says_what_it_is_told(void **state)
{
	static const char want[] =
		"minivmm 1\n"
		"vm name=web%20100%25%0a%1b[2J%c3%a9= pid=4711 start=18446744073709551615 "
		"netns=4026531840\n"
		"nic name=net0 type=tap interface=mv0 bridge=br0 model=virtio-net path=user "
		"mac=02:00:00:ab:cd:ef address=fe:00:00:00:00:00 index=4294967295 queues=4 "
		"mtu=1500\n"
		"nic name=net1 type=user mac=02:00:00:00:00:00 index=0 queues=0 mtu=0\n";
	char buf[1024];

	assert_int_equal(run_entry_format(&full, buf, sizeof(buf)), strlen(want));
	assert_string_equal(buf, want);
}

static void reads_what_it_said(void **state)
{
	struct run_entry back;
	char buf[1024];
	int len = run_entry_format(&full, buf, sizeof(buf));

	memset(&back, 0x5a, sizeof(back));
	assert_int_equal(run_entry_parse(buf, (size_t)len, &back), 0);
	assert_memory_equal(&back, &full, sizeof(full));
	/* Padded with NULs, behind which may be anything. */
	memcpy(buf + len + 1, "nic\n\n", 5);
	assert_int_equal(run_entry_parse(buf, sizeof(buf), &back), 0);
	assert_memory_equal(&back, &full, sizeof(full));
}

/* The longest there can be, every byte of it escaped, fits the space there is for it. */
static void fits(void **state)
{
	struct run_entry entry = {.pid = UINT32_MAX, .start = UINT64_MAX, .netns = UINT64_MAX,
				  .nic_count = RUN_NICS_MAX}, back;
	static char buf[8192];
	int len;

	memset(entry.name, 0xff, sizeof(entry.name) - 1);
	for (unsigned int i = 0; i < RUN_NICS_MAX; i++) {
		struct run_nic *nic = &entry.nics[i];

		memset(nic, 0xff, sizeof(*nic));
		nic->name[15] = nic->type[15] = nic->interface[15] = 0;
		nic->bridge[15] = nic->model[15] = nic->path[15] = 0;
	}
	len = run_entry_format(&entry, buf, sizeof(buf));
	assert_true(len > 0);
	assert_int_equal(run_entry_parse(buf, sizeof(buf), &back), 0);
	assert_memory_equal(back.name, entry.name, sizeof(back.name));
	assert_memory_equal(back.nics, entry.nics, sizeof(back.nics));

	for (int size = 0; size <= len; size++) {
		char *exact = malloc((size_t)size + 1);

		assert_int_equal(run_entry_format(&entry, exact, (size_t)size), -ENOSPC);
		free(exact);
	}
}

static void skips_what_it_does_not_know(void **state)
{
	static const char text[] = "minivmm 1\n"
				   "vm colour=blue pid=1 name=a hat=%zz\n"
				   "\n"
				   "disk name=disk0 path=/x\n"
				   "nic name=net0 speed=fast mac=02:00:00:00:00:07\n";
	struct run_entry entry;

	assert_int_equal(run_entry_parse(text, sizeof(text), &entry), 0);
	assert_string_equal(entry.name, "a");
	assert_int_equal(entry.nic_count, 1);
	assert_int_equal(entry.nics[0].mac[5], 7);
}

static void refuses_what_is_none(void **state)
{
	static const struct {
		int r;
		const char *text;
	} bad[] = {
		{-EINVAL, ""},
		{-EINVAL, "\n"},
		{-EINVAL, "minivmm"},
		{-EINVAL, "vm pid=1\n"},
		{-EPROTONOSUPPORT, "minivmm 1"},
		{-EPROTONOSUPPORT, "minivmm 2\nvm pid=1\n"},
		{-EPROTONOSUPPORT, "minivmm 10\nvm pid=1\n"},
		{-EINVAL, "minivmm 1\n"},
		{-EINVAL, "minivmm 1\nvm name=a\n"},
		{-EINVAL, "minivmm 1\nvm pid=0\n"},
		{-EINVAL, "minivmm 1\nvm pid=1"}, /* cut off */
		{-EINVAL, "minivmm 1\nvm pid=1\nnic name=n"},
		{-EINVAL, "minivmm 1\nvm pid=4294967296\n"},
		{-EINVAL, "minivmm 1\nvm pid=-1\n"},
		{-EINVAL, "minivmm 1\nvm pid=0x1\n"},
		{-EINVAL, "minivmm 1\nvm pid=\n"},
		{-EINVAL, "minivmm 1\nvm pid\n"},
		{-EINVAL, "minivmm 1\nvm pid=1 \n"},
		{-EINVAL, "minivmm 1\nvm  pid=1\n"},
		{-EINVAL, "minivmm 1\nvm pid=1 start=18446744073709551616\n"},
		{-EINVAL, "minivmm 1\nvm pid=1 name=%\n"},
		{-EINVAL, "minivmm 1\nvm pid=1 name=%0\n"},
		{-EINVAL, "minivmm 1\nvm pid=1 name=%0 x=y\n"},
		{-EINVAL, "minivmm 1\nvm pid=1 name=%00\n"},
		{-EINVAL, "minivmm 1\nvm pid=1 name=%4G\n"},
		{-EINVAL, "minivmm 1\nvm pid=1 name=a\tb\n"},
		{-EINVAL, "minivmm 1\nvm pid=1 name=\x1b[2J\n"},
		{-EINVAL, "minivmm 1\nvm pid=1 name=\xc3\xa9\n"},
		{-EINVAL, "minivmm 1\nvm pid=1\nnic interface=sixteen_letters_\n"},
		{-EINVAL, "minivmm 1\nvm pid=1\nnic mac=02:00:00:00:00\n"},
		{-EINVAL, "minivmm 1\nvm pid=1\nnic mac=02:00:00:00:00:\n"},
		{-EINVAL, "minivmm 1\nvm pid=1\nnic mac=02:00:00:00:00:0\n"},
		{-EINVAL, "minivmm 1\nvm pid=1\nnic mac=02:00:00:00:00:00:00\n"},
		{-EINVAL, "minivmm 1\nvm pid=1\nnic mac=02-00-00-00-00-00\n"},
		{-EINVAL, "minivmm 1\nvm pid=1\nnic mac=\n"},
		{-EINVAL, "minivmm 1\nvm pid=1\nnic a\nnic b=\n"},
		{-EINVAL, "minivmm 1\nvm pid=1\nnic a=\nnic a=\nnic a=\nnic a=\nnic a=\nnic a=\n"
			  "nic a=\nnic a=\nnic a=\n"}, /* nine */
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		size_t len = strlen(bad[i].text);
		char *exact = malloc(len + 1); /* the sanitizer sees a read past the end */
		struct run_entry entry;
		int r;

		memcpy(exact, bad[i].text, len);
		exact = realloc(exact, len ? len : 1);
		r = run_entry_parse(exact, len, &entry);
		free(exact);
		if (r != bad[i].r)
			fail_msg("%d, not %d: %s", r, bad[i].r, bad[i].text);
	}
}

static void refuses_a_name_too_long(void **state)
{
	char text[512] = "minivmm 1\nvm pid=1 name=";
	size_t at = strlen(text);
	struct run_entry entry;

	memset(text + at, 'a', sizeof(entry.name) - 1);
	strcpy(text + at + sizeof(entry.name) - 1, "\n");
	assert_int_equal(run_entry_parse(text, sizeof(text), &entry), 0);
	assert_int_equal(strlen(entry.name), sizeof(entry.name) - 1);
	strcpy(text + at + sizeof(entry.name) - 1, "a\n");
	assert_int_equal(run_entry_parse(text, sizeof(text), &entry), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_it_is_told),
		cmocka_unit_test(reads_what_it_said),
		cmocka_unit_test(fits),
		cmocka_unit_test(skips_what_it_does_not_know),
		cmocka_unit_test(refuses_what_is_none),
		cmocka_unit_test(refuses_a_name_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

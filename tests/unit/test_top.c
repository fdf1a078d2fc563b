/* SPDX-License-Identifier: MIT */
/* What `minivmm top` makes of two reports, which others wrote; and how it asks for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cmd/top.h"

static const char before[] =
	"{\"vcpus\": [{\"vcpu\": 0, \"exits\": ["
	"{\"exit\": \"pio-out\", \"address\": 1016, \"count\": 100, \"ns\": 1000}],"
	"\"kvm\": {\"exits\": 1000, \"halt_exits\": 10}}],"
	"\"devices\": [{\"device\": \"disk0\","
	"\"queues\": [{\"requests\": 10, \"doorbells\": 5, \"irqs\": 5}],"
	"\"requests\": {\"read\": {\"bytes\": 4096, \"errors\": 0, \"latency-ns\": {\"buckets\":"
	"[[1024, 10]]}}}}]}";
static const char after[] =
	"{\"vcpus\": [{\"vcpu\": 0, \"exits\": ["
	"{\"exit\": \"pio-out\", \"address\": 1016, \"count\": 300, \"ns\": 20001000},"
	"{\"exit\": \"mmio\", \"address\": 4096, \"count\": 1000, \"ns\": 80000000}],"
	"\"kvm\": {\"exits\": 5000, \"halt_exits\": 30}}],"
	"\"devices\": [{\"device\": \"disk0\","
	"\"queues\": [{\"requests\": 2010, \"doorbells\": 25, \"irqs\": 105}],"
	"\"requests\": {\"read\": {\"bytes\": 8196096, \"errors\": 3, \"latency-ns\": {\"buckets\":"
	"[[1024, 10], [65536, 2000]]}}}},"
	"{\"device\": \"net0\", \"queues\": [], \"rx\": {\"packets\": 4, \"bytes\": 240,"
	"\"dropped\": 2}}]}";

/* What it prints, for 2 seconds between the two. */
static char *shown(const char *a, const char *b)
{
	json_t *first = a ? json_loads(a, JSON_DECODE_ANY, NULL) : NULL;
	json_t *second = json_loads(b, JSON_DECODE_ANY, NULL);
	FILE *file = tmpfile();
	int old = dup(STDOUT_FILENO);
	char *text = calloc(1, 65536);

	assert_non_null(second);
	assert_non_null(text);
	fflush(stdout);
	dup2(fileno(file), STDOUT_FILENO);
	top_show(first, second, 2);
	fflush(stdout);
	dup2(old, STDOUT_FILENO);
	close(old);
	rewind(file);
	text[fread(text, 1, 65535, file)] = '\0';
	fclose(file);
	json_decref(first);
	json_decref(second);
	return text;
}

static void expect(const char *text, const char *line)
{
	assert_non_null(text);
	if (!strstr(text, line))
		fail_msg("'%s' is not in:\n%s", line, text);
}

static void test_differences(void **state)
{
	char *text = shown(before, after);

	/* to KVM, halts, to user space, per cent of the time; the most frequent first */
	expect(text, "  vcpu0          2k        10       600     5.0  "
		     "mmio 0x1000 500, pio-out 0x3f8 100\n");
	expect(text, "  disk0          1k requests/s, 10 doorbells/s, 50 interrupts/s\n");
	expect(text, "read           1k/s     3.91 MiB/s  p50");
	expect(text, "3 errors");
	expect(text, "to it           2/s");
	expect(text, "2 dropped");
	free(text);
}

static void test_nothing_happened(void **state)
{
	char *text = shown(after, after);

	expect(text, "  vcpu0           0         0         0     0.0  \n");
	assert_null(strstr(text, "read"));
	free(text);
}

/* Of somebody who wants us harm. */
static void test_odd_reports(void **state)
{
	static const char *const odd[] = {
		"[]", "5", "{\"vcpus\": 5, \"devices\": {}}", "{\"vcpus\": [5, null, [], {}]}",
		"{\"vcpus\": [{\"vcpu\": -1, \"exits\": [5, {\"exit\": \"\\u001b[2J\", \"count\":"
		"9223372036854775807, \"ns\": 9223372036854775807}]}]}",
		"{\"devices\": [5, {\"device\": \"\\u001b[2J\", \"queues\": [1, {}], \"requests\": []},"
		"{\"requests\": {\"read\": {\"latency-ns\": {\"buckets\": [5, [], [-1, -1], [1, 1, 1],"
		"[9223372036854775807, 9223372036854775807], [0, 9223372036854775807],"
		"[1, 9223372036854775807]]}}}, \"rx\": {\"packets\": 1e300}}]}",
	};

	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		char *texts[] = {shown(NULL, odd[i]), shown(after, odd[i]), shown(odd[i], after),
				 shown(odd[i], odd[i])};

		for (size_t j = 0; j < sizeof(texts) / sizeof(texts[0]); j++) {
			assert_null(strchr(texts[j], '\033'));
			free(texts[j]);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_differences),
		cmocka_unit_test(test_nothing_happened),
		cmocka_unit_test(test_odd_reports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

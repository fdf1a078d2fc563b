/* SPDX-License-Identifier: MIT */
/* The order of what happened, and the three ways it is shown. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#include "timeline.h"

#define MS 1000000u
#define ZERO (77u * MS)

static struct timeline timeline;
static char *text;

static int teardown(void **state)
{
	timeline_clear(&timeline);
	free(text);
	text = NULL;
	return 0;
}

static void show(void (*print)(const struct timeline *, uint64_t, FILE *))
{
	size_t len;
	FILE *to;

	free(text);
	to = open_memstream(&text, &len);
	assert_non_null(to);
	print(&timeline, ZERO, to);
	fclose(to);
}

static void add_some(void)
{
	timeline_add(&timeline, ZERO + 5 * MS, "vCPU %u is woken", 1);
	timeline_add(&timeline, 0, "never");
	timeline_add(&timeline, ZERO, "exec");
	timeline_add(&timeline, ZERO + 5 * MS, "at the same time");
	timeline_add(&timeline, ZERO + 1500000, "<kernel> & \"more\"");
	timeline_sort(&timeline);
}

static void test_text(void **state)
{
	add_some();
	show(timeline_print);
	assert_string_equal(text,
		"          ms        after  event\n"
		"       0.000        0.000  exec\n"
		"       1.500        1.500  <kernel> & \"more\"\n"
		"       5.000        3.500  vCPU 1 is woken\n"
		"       5.000        0.000  at the same time\n");
}

static void test_json(void **state)
{
	json_t *root, *events;

	add_some();
	show(timeline_print_json);
	assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
	root = json_loads(text, 0, NULL);
	events = json_object_get(root, "events");
	assert_int_equal(json_array_size(events), 4);
	assert_string_equal(json_string_value(json_object_get(json_array_get(events, 1), "event")),
			    "<kernel> & \"more\"");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(events, 1), "ns")),
			 1500000);
	json_decref(root);
}

static void test_svg(void **state)
{
	add_some();
	show(timeline_print_svg);
	assert_ptr_equal(strstr(text, "<svg "), text);
	assert_non_null(strstr(text, "&lt;kernel&gt; &amp; "));
	assert_null(strstr(text, "<kernel>"));
	assert_non_null(strstr(text, ">1.500 ms<"));
	/* the last one is at the axis' end, half of it would be in the middle */
	assert_non_null(strstr(text, "<circle cx=\"950.0\""));
	assert_non_null(strstr(text, "<circle cx=\"350.0\""));
	assert_string_equal(text + strlen(text) - 7, "</svg>\n");
}

static void test_nothing(void **state)
{
	show(timeline_print_svg);
	assert_non_null(strstr(text, "</svg>"));
	show(timeline_print);
	assert_null(strchr(text, '.'));
}

static void test_many(void **state)
{
	for (unsigned int i = 1000; i > 0; i--)
		timeline_add(&timeline, ZERO + i, "event number %u", i);
	timeline_sort(&timeline);
	assert_int_equal(timeline.count, 1000);
	for (unsigned int i = 0; i < 1000; i++)
		assert_int_equal(timeline.events[i].ns, ZERO + i + 1);
	timeline_add(&timeline, 1, "%0100d", 0);
	assert_int_equal(strlen(timeline.events[1000].what), sizeof(timeline.events[0].what) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_text, teardown),
		cmocka_unit_test_teardown(test_json, teardown),
		cmocka_unit_test_teardown(test_svg, teardown),
		cmocka_unit_test_teardown(test_nothing, teardown),
		cmocka_unit_test_teardown(test_many, teardown),
	};

	return cmocka_run_group_tests_name("timeline", tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Whether a host, which is a folder here, has as much memory as is wanted at once. */
#include "vmm/mem_room.h"

#include "tests/unit/caught.h"
#include "tests/unit/fake_root.h"
#include "util/util.h"

#define NODE1 "/sys/devices/system/node/node1/"
#define POOL1 NODE1 "hugepages/hugepages-2048kB/"

static void check_room(const struct mem_options *options)
{
	const char *said;

	caught_begin();
	assert_int_equal(mem_room_check(options, root), 0);
	said = caught_end();
	assert_string_equal(said, "");
}

static void check_no_room(const struct mem_options *options, const char *why)
{
	caught_begin();
	assert_int_equal(mem_room_check(options, root), -ENOMEM);
	assert_one_error(caught_end(), why);
}

static void test_huge_pages_of_node(void **state)
{
	struct mem_options options = {
		.len_bytes = GIB(1), .pages = MEM_PAGES_2M, .has_node = true, .node = 1};

	put("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "0\n");
	put(POOL1 "free_hugepages", "512\n");
	put(NODE1 "hugepages/hugepages-1048576kB/free_hugepages", "1\n");
	check_room(&options);
	options.len_bytes += MIB(2);
	check_no_room(&options, "numa=1: 513 huge pages of 2 MiB are needed, and 512 are free");
	put(POOL1 "free_hugepages", "0\n");
	options.len_bytes = MIB(2);
	check_no_room(&options, "echo N > " POOL1 "nr_hugepages");
	options.node = 2; /* which is not there: others say so */
	check_room(&options);
	options = (struct mem_options){
		.len_bytes = GIB(2), .pages = MEM_PAGES_1G, .has_node = true, .node = 1};
	check_no_room(&options, "2 huge pages of 1024 MiB are needed, and 1 are free");
	options.has_node = false; /* the kernel counts them itself */
	check_room(&options);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_huge_pages_of_node, root_setup, root_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Whether a host, which is a folder here, has as much memory as is wanted at once. */
#include "vmm/mem_room.h"

#include "tests/unit/caught.h"
#include "tests/unit/fake_root.h"
#include "util/util.h"

#define ON_HOST(test) cmocka_unit_test_setup_teardown(test, root_setup, root_teardown)
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

static void test_prefault_host(void **state)
{
	struct mem_options options = {.len_bytes = MIB(512), .prefault = true};

	check_room(&options); /* nothing is known */
	put("/proc/meminfo", "MemTotal: 4194304 kB\nMemFree: 1024 kB\nMemAvailable: 524288 kB\n");
	check_room(&options);
	options.len_bytes += 4096;
	check_no_room(&options, "512 MiB are left on this host");
	options.prefault = false;
	check_room(&options);
	options = (struct mem_options){
		.len_bytes = GIB(1), .pages = MEM_PAGES_2M, .prefault = true};
	check_room(&options); /* that memory was set aside long ago */
}

/* What the whole host has is no help. */
static void test_prefault_node(void **state)
{
	struct mem_options options = {
		.len_bytes = MIB(300), .prefault = true, .has_node = true, .node = 1};

	put("/proc/meminfo", "MemAvailable:  4194304 kB\n");
	put("/sys/devices/system/node/node0/meminfo", "Node 0 MemFree:  4000000 kB\n");
	put(NODE1 "meminfo", "Node 1 MemTotal:  2097152 kB\nNode 1 MemFree:  102400 kB\n"
			     "Node 1 Active:  900000 kB\nNode 1 Inactive:  900000 kB\n"
			     "Node 1 Active(file): 102400 kB\nNode 1 Inactive(file): 102400 kB\n");
	check_room(&options);
	options.len_bytes += 4096;
	check_no_room(&options, "300 MiB are left on node 1");
	options.node = 0;
	check_room(&options);
	options.has_node = false;
	check_room(&options);
}

static void test_prefault_cgroup(void **state)
{
	const struct mem_options options = {.len_bytes = MIB(300), .prefault = true};

	put("/proc/meminfo", "MemAvailable:  4194304 kB\n");
	put("/proc/self/cgroup", "4:memory:/x\n0::/outer/inner one\n");
	put("/sys/fs/cgroup/outer/inner one/memory.max", "max\n");
	put("/sys/fs/cgroup/outer/inner one/memory.current", "4294967296\n");
	check_room(&options);
	/* 400 MiB, of which 200 are used, half of that for files */
	put("/sys/fs/cgroup/outer/memory.max", "419430400\n");
	put("/sys/fs/cgroup/outer/memory.current", "209715200\n");
	put("/sys/fs/cgroup/outer/memory.stat", "anon 104857600\nfile 104857600\n"
						"inactive_file 52428800\nactive_file 52428800\n");
	check_room(&options);
	put("/sys/fs/cgroup/outer/memory.max", "419426304\n");
	check_no_room(&options, "299 MiB are left by /sys/fs/cgroup/outer/memory.max");
	put("/sys/fs/cgroup/outer/memory.max", "0\n");
	check_no_room(&options, "0 MiB are left by /sys/fs/cgroup/outer/memory.max");
}

/* As in a container: its top is the one that has the limit. */
static void test_prefault_top_cgroup(void **state)
{
	const struct mem_options options = {.len_bytes = MIB(300), .prefault = true};

	for (int deep = 0; deep < 2; deep++) {
		put("/proc/self/cgroup", deep ? "0::/a\n" : "0::/\n");
		put("/sys/fs/cgroup/memory.max", "max\n");
		put("/sys/fs/cgroup/memory.current", "4096\n");
		check_room(&options);
		put("/sys/fs/cgroup/memory.max", "209715200\n");
		check_no_room(&options, "199 MiB are left by /sys/fs/cgroup/memory.max");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_HOST(test_huge_pages_of_node),
		ON_HOST(test_prefault_host),
		ON_HOST(test_prefault_node),
		ON_HOST(test_prefault_cgroup),
		ON_HOST(test_prefault_top_cgroup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

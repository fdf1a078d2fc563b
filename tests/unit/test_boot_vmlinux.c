/* SPDX-License-Identifier: MIT */
/* Into which pages the kernel is copied. */
#include "boot/vmlinux.h"

#include "tests/unit/smaps.h"
#include "util/util.h"
#include "vmm/mem.h"

#define GPA MIB(16)
#define SPAN MIB(4)

static long is_huge(enum mem_pages pages)
{
	static const uint8_t text[] = "kernel";
	const struct vmlinux kernel = {
		.bytes = text,
		.count = 1,
		.segments = {{0, sizeof(text), GPA, SPAN}},
		.link_gpa = GPA,
		.span = SPAN,
	};
	struct mem mem;
	uint8_t *image;
	long huge;

	assert_int_equal(mem_init(&mem, &(struct mem_options){MIB(32), .pages = pages}), 0);
	assert_int_equal(vmlinux_load(&kernel, &mem, GPA, 0), 0);
	image = mem_at(&mem, GPA, SPAN);
	assert_memory_equal(image, text, sizeof(text));
	huge = smaps(image, "AnonHugePages:", NULL) > 0 || smaps(image, "VmFlags:", " hg") > 0;
	mem_finish(&mem);
	return huge;
}

static void test_pages(void **state)
{
	if (!host_has_thp("/sys/kernel/mm/transparent_hugepage/enabled"))
		skip();
	assert_true(is_huge(MEM_PAGES_AUTO));
	assert_false(is_huge(MEM_PAGES_OFF));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

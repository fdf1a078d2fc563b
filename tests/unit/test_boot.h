/* SPDX-License-Identifier: MIT */
/* For the tests of boot/: files made in memory, a machine without KVM, messages caught. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/caught.h"
#include "util/util.h"
#include "vmm/vm.h"

struct test_file {
	int fd;
	char path[64];
};

static inline struct test_file file_make(const void *data, size_t len)
{
	struct test_file file = {.fd = memfd_create("test", MFD_CLOEXEC)};

	assert_true(file.fd >= 0);
	assert_int_equal(pwrite_full(file.fd, data, len, 0), 0);
	snprintf(file.path, sizeof(file.path), "/proc/self/fd/%d", file.fd);
	return file;
}

static inline void file_drop(struct test_file *file)
{
	close(file->fd);
}

static inline void machine_init(struct vm *vm, uint64_t mem_bytes)
{
	memset(vm, 0, sizeof(*vm));
	vm->ncpus = 1;
	vm->topology = (struct topology){1, 1, 1};
	assert_int_equal(mem_init(&vm->mem, &(struct mem_options){.len_bytes = mem_bytes}), 0);
}

static inline void machine_finish(struct vm *vm)
{
	mem_finish(&vm->mem);
}

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
	assert_int_equal(mem_init(&vm->mem, &(struct mem_options){.len_bytes = mem_bytes}), 0);
}

static inline void machine_finish(struct vm *vm)
{
	mem_finish(&vm->mem);
}

/* Standard error between the two calls; the text is the caller's until the next caught_end. */
static int caught_fd, caught_saved;

static inline void caught_begin(void)
{
	caught_fd = memfd_create("stderr", MFD_CLOEXEC);
	caught_saved = dup(STDERR_FILENO);
	assert_true(dup2(caught_fd, STDERR_FILENO) >= 0);
}

static inline const char *caught_end(void)
{
	static char text[8192];
	ssize_t len;

	dup2(caught_saved, STDERR_FILENO);
	close(caught_saved);
	len = pread(caught_fd, text, sizeof(text) - 1, 0);
	close(caught_fd);
	assert_true(len >= 0);
	text[len] = '\0';
	return text;
}

/* One line, of our shape, that has `needle` and a remedy. */
static inline void assert_one_error(const char *text, const char *needle)
{
	const char *end = strchr(text, '\n');

	if (!end || end[1] || strncmp(text, "minivmm: ", 9) != 0)
		fail_msg("not one line: '%s'", text);
	if (!strstr(text, needle))
		fail_msg("no '%s' in: %s", needle, text);
	if (end[-1] != ')')
		fail_msg("no remedy in: %s", text);
}

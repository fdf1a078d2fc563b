/* SPDX-License-Identifier: MIT */
/*
 * What libqcow gets in place of some of the C library's functions: the dynamic linker prefers
 * those of the program.
 *
 * open(): libqcow opens files by name, and parses in doing so. So that all parsing happens inside
 * the sandbox, where nothing can be opened, the one name there is stands for the fd that was
 * passed. Should a libqcow not call it, its open is the end of the process.
 *
 * fstat() and read(): of a cluster that the file's end cuts short libqcow reads what there is,
 * and goes on in what lies behind it in memory. So it is told that the file has no end, and gets
 * zeroes there, as QEMU reads it.
 *
 * read() hides the name of a backing file where that is wanted: without that file libqcow reads
 * nothing at all, not even what is in the image.
 *
 * malloc(): it forgets to look how much came out of a compressed cluster, too. So new memory
 * holds nothing.
 *
 * The C library's headers, which may have inline versions of these functions, are left out.
 */
#include "block/qcow/child_io.h"

#include <asm/stat.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "block/qcow/proto.h"

#define FILE_BYTES (1l << 56) /* offsets in tables are no longer */

int open(const char *name, int flags, ...);
int open64(const char *name, int flags, ...);
int fstat(int fd, struct stat *st);
int fstat64(int fd, struct stat *st);
long read(int fd, void *buf, size_t len);
void *malloc(size_t len);
void *calloc(size_t count, size_t len);
long syscall(long number, ...);

int open(const char *name, int flags, ...)
{
	if (strcmp(name, QCOW_IMAGE_NAME) == 0)
		return QCOW_FD_IMAGE;
	errno = ENOENT;
	return -1;
}

int open64(const char *name, int flags, ...)
{
	return open(name, flags);
}

int fstat(int fd, struct stat *st)
{
	int r = (int)syscall(SYS_fstat, fd, st);

	if (r == 0 && fd == QCOW_FD_IMAGE)
		st->st_size = FILE_BYTES;
	return r;
}

int fstat64(int fd, struct stat *st)
{
	return fstat(fd, st);
}

static int hide_backing;

void qcow_io_hide_backing(void)
{
	hide_backing = 1;
}

/* The header's fields of it are bytes 8 to 19. */
static void patch_header(unsigned char *buf, size_t len, long at)
{
	for (size_t i = 0; hide_backing && i < len && at + (long)i < 20; i++) {
		if (at + (long)i >= 8)
			buf[i] = 0;
	}
}

long read(int fd, void *buf, size_t len)
{
	long at = hide_backing ? syscall(SYS_lseek, fd, 0, SEEK_CUR) : 0;
	size_t got = 0;
	long n;

	while (got < len) {
		n = syscall(SYS_read, fd, (char *)buf + got, len - got);
		if (n < 0)
			return n;
		if (n == 0)
			break;
		got += (size_t)n;
	}
	memset((char *)buf + got, 0, len - got);
	patch_header(buf, len, at);
	return (long)len;
}

void *malloc(size_t len)
{
	return calloc(1, len);
}

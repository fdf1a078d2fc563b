/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * An entry is a file with a head, the packed kernel, and the unpacked one. It is used if the packed
 * kernel in it is, byte for byte, what is to be unpacked now. So no hash has to be trusted that it
 * is the right one, and comparing 12 MiB is quicker than any good hash. Its name has a checksum of
 * the packed kernel: kernels of the same name replace each other.
 *
 * What is unpacked has a CRC-32, as in gzip and xz. It finds damage, and what a crash of the host
 * left where data were not yet on the disk: nothing is synced. It does not protect from who can
 * write to the file: the directories and the file must be ours alone. Everything is read, never
 * mapped: a file that changes meanwhile is a wrong checksum and no SIGBUS.
 *
 * An entry is written without a name, by a thread while the guest runs, and
 * linked when it is whole. Who is killed leaves nothing. It takes the place of whatever has its
 * name; two that write the same replace each other with the same. Then the entries that were not
 * used for longest go, until few enough are left.
 */
#include "boot/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libdeflate.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/log.h"
#include "util/own_dir.h"
#include "util/util.h"

#define ENTRIES_MAX 8
#define ENTRIES_BYTES_MAX MIB(512)
#define CHUNK KIB(256) /* which stays in the processor's cache */
#define NAME_BYTES 48

struct head {
	char magic[8];
	uint64_t packed_len;
	uint64_t len;
	uint32_t packed_crc;
	uint32_t crc;
};

struct kernel_cache {
	int dir;
	bool writing; /* there is a thread */
	pthread_t thread;
	atomic_bool stop;
	struct kernel_bytes kernel; /* the thread's */
};

void kernel_bytes_free(struct kernel_bytes *kernel)
{
	if (kernel->packed)
		munmap(kernel->packed, kernel->packed_len);
	if (kernel->bytes)
		munmap(kernel->bytes, kernel->len);
	*kernel = (struct kernel_bytes){0};
}

static void await_writer(struct kernel_cache *cache)
{
	if (cache->writing)
		pthread_join(cache->thread, NULL);
	cache->writing = false;
}

/* --- the directory --- */

/* Where users keep caches. It may be a link, so long as it leads to what is ours. */
static int open_base(void)
{
	const char *xdg = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
	char path[PATH_MAX];
	struct stat st;
	int len, fd;

	if (xdg && *xdg == '/')
		len = snprintf(path, sizeof(path), "%s", xdg);
	else if (home && *home == '/' && stat(home, &st) == 0 && st.st_uid == geteuid())
		len = snprintf(path, sizeof(path), "%s/.cache", home);
	else
		return -ENOENT;
	if (len >= (int)sizeof(path))
		return -ENAMETOOLONG;
	mkdir(path, 0700);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && st.st_uid == geteuid())
		return fd;
	close(fd);
	return -EPERM;
}

static int open_dir(void)
{
	int base = open_base(), ours, dir;

	if (base < 0)
		return base;
	ours = own_dir_make(base, "minivmm", 0700);
	close(base);
	if (ours < 0)
		return ours;
	dir = own_dir_make(ours, "kernels", 0700);
	close(ours);
	return dir;
}

struct kernel_cache *kernel_cache_open(void)
{
	struct kernel_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	cache->dir = open_dir();
	if (cache->dir >= 0)
		return cache;
	log_debug("kernel cache: none: its directory: %s", strerror(-cache->dir));
	free(cache);
	return NULL;
}

/* --- an entry --- */

static struct head describe(const struct kernel_bytes *kernel)
{
	return (struct head){
		.magic = {'m', 'v', 'k', 'e', 'r', 'n', '1', '\n'},
		.packed_len = kernel->packed_len,
		.len = kernel->len,
		.packed_crc = libdeflate_crc32(0, kernel->packed, kernel->packed_len),
	};
}

static uint64_t entry_bytes(const struct head *head)
{
	return sizeof(*head) + head->packed_len + head->len;
}

static void name_it(char *name, const struct head *head)
{
	snprintf(name, NAME_BYTES, "%08x-%llx-%llx", head->packed_crc,
		 (unsigned long long)head->packed_len, (unsigned long long)head->len);
}

/* --- reading --- */

/* A regular file of ours, as long as it must be. */
static int check_file(int fd, const struct head *head)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return -EPERM;
	return (uint64_t)st.st_size == entry_bytes(head) ? 0 : -ENODATA;
}

static int compare_packed(int fd, const struct kernel_bytes *kernel)
{
	uint8_t chunk[KIB(64)];

	for (size_t pos = 0; pos < kernel->packed_len; pos += sizeof(chunk)) {
		size_t len = MIN(kernel->packed_len - pos, sizeof(chunk));
		int ret = pread_full(fd, chunk, len, sizeof(struct head) + pos);

		if (ret < 0)
			return ret;
		if (memcmp(chunk, kernel->packed + pos, len) != 0)
			return -EBADMSG;
	}
	return 0;
}

static int read_bytes(int fd, const struct kernel_bytes *kernel, uint32_t *crc)
{
	*crc = 0;
	for (size_t pos = 0; pos < kernel->len; pos += CHUNK) {
		size_t len = MIN(kernel->len - pos, CHUNK);
		int ret = pread_full(fd, kernel->bytes + pos, len,
				     sizeof(struct head) + kernel->packed_len + pos);

		if (ret < 0)
			return ret;
		*crc = libdeflate_crc32(*crc, kernel->bytes + pos, len);
	}
	return 0;
}

static int read_entry(int fd, const struct kernel_bytes *kernel, const struct head *expected)
{
	struct head head;
	uint32_t crc;
	int ret = check_file(fd, expected);

	if (ret == 0)
		ret = pread_full(fd, &head, sizeof(head), 0);
	if (ret < 0)
		return ret;
	crc = head.crc;
	head.crc = 0;
	if (memcmp(&head, expected, sizeof(head)) != 0)
		return -EBADMSG;
	ret = compare_packed(fd, kernel);
	if (ret < 0)
		return ret;
	ret = read_bytes(fd, kernel, &head.crc);
	return ret == 0 && head.crc != crc ? -EBADMSG : ret;
}

int kernel_cache_get(struct kernel_cache *cache, const struct kernel_bytes *kernel)
{
	char name[NAME_BYTES];
	struct head head;
	int fd, ret;

	if (!cache)
		return -ENOENT;
	await_writer(cache);
	head = describe(kernel);
	name_it(name, &head);
	/* O_NONBLOCK: a FIFO must be refused, not waited for. */
	fd = openat(cache->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	ret = fd < 0 ? -errno : read_entry(fd, kernel, &head);
	if (ret == 0)
		futimens(fd, NULL); /* used last: the last to go */
	else if (ret != -ENOENT)
		log_debug("kernel cache: %s is of no use: %s", name, strerror(-ret));
	if (fd >= 0)
		close(fd);
	return ret;
}

/* --- writing, on the thread --- */

static int write_part(struct kernel_cache *cache, int fd, const void *data, size_t len,
		      uint64_t *offset)
{
	for (size_t pos = 0; pos < len; pos += CHUNK) {
		size_t n = MIN(len - pos, CHUNK);
		int ret;

		if (pos && atomic_load_explicit(&cache->stop, memory_order_relaxed))
			return -ECANCELED;
		ret = pwrite_full(fd, (const uint8_t *)data + pos, n, *offset);
		if (ret < 0)
			return ret;
		*offset += n;
	}
	return 0;
}

static int write_entry(struct kernel_cache *cache, int fd, const struct head *head)
{
	const struct kernel_bytes *kernel = &cache->kernel;
	uint64_t offset = 0;
	int ret = write_part(cache, fd, head, sizeof(*head), &offset);

	if (ret == 0)
		ret = write_part(cache, fd, kernel->packed, kernel->packed_len, &offset);
	return ret < 0 ? ret : write_part(cache, fd, kernel->bytes, kernel->len, &offset);
}

/* Whatever has that name was of no use when it was looked at, or is the same. */
static int link_entry(const struct kernel_cache *cache, int fd, const char *name)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (unsigned int i = 0; i < 2; i++) {
		if (linkat(AT_FDCWD, path, cache->dir, name, AT_SYMLINK_FOLLOW) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
		if (i == 0 && unlinkat(cache->dir, name, 0) < 0 && errno != ENOENT)
			return -errno;
	}
	return 0; /* another one came first */
}

static int64_t used_at(const struct stat *st)
{
	return st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* The least recently used one, if there are too many. */
static bool find_excess(const struct kernel_cache *cache, DIR *stream, char *name, size_t len)
{
	unsigned int count = 0;
	uint64_t bytes = 0;
	int64_t oldest = INT64_MAX;
	struct dirent *entry;
	struct stat st;

	rewinddir(stream);
	while ((entry = readdir(stream))) {
		if (fstatat(cache->dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		count++;
		bytes += (uint64_t)st.st_size;
		if (used_at(&st) < oldest) {
			oldest = used_at(&st);
			snprintf(name, len, "%s", entry->d_name);
		}
	}
	return count > ENTRIES_MAX || bytes > ENTRIES_BYTES_MAX;
}

static void evict(const struct kernel_cache *cache)
{
	int fd = openat(cache->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	char name[NAME_MAX + 1];

	if (!stream) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while (find_excess(cache, stream, name, sizeof(name)))
		if (unlinkat(cache->dir, name, 0) < 0)
			break;
	closedir(stream);
}

static int store(struct kernel_cache *cache)
{
	struct head head = describe(&cache->kernel);
	char name[NAME_BYTES];
	int fd, ret;

	if (entry_bytes(&head) > ENTRIES_BYTES_MAX)
		return -EFBIG;
	head.crc = libdeflate_crc32(0, cache->kernel.bytes, cache->kernel.len);
	name_it(name, &head);
	fd = openat(cache->dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = write_entry(cache, fd, &head);
	if (ret == 0)
		ret = link_entry(cache, fd, name);
	close(fd);
	if (ret == 0)
		evict(cache);
	return ret;
}

static void *writer(void *arg)
{
	struct kernel_cache *cache = arg;
	int ret;

	ret = store(cache);
	if (ret < 0)
		log_debug("kernel cache: not kept: %s", strerror(-ret));
	kernel_bytes_free(&cache->kernel);
	return NULL;
}

/* Signals are for other threads; SIGXFSZ, where files must be small, is for none. */
static bool start_writer(struct kernel_cache *cache)
{
	sigset_t all, old;
	int ret;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ret = pthread_create(&cache->thread, NULL, writer, cache);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (ret == 0)
		pthread_setname_np(cache->thread, "kcache");
	return ret == 0;
}

void kernel_cache_put(struct kernel_cache *cache, struct kernel_bytes *kernel)
{
	if (cache && !cache->writing) {
		cache->kernel = *kernel;
		cache->writing = start_writer(cache);
		if (cache->writing) {
			*kernel = (struct kernel_bytes){0};
			return;
		}
	}
	kernel_bytes_free(kernel);
}

void kernel_cache_close(struct kernel_cache *cache)
{
	if (!cache)
		return;
	atomic_store_explicit(&cache->stop, true, memory_order_relaxed);
	await_writer(cache);
	close(cache->dir);
	free(cache);
}

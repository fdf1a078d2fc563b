/* SPDX-License-Identifier: MIT */
#include "vmm/mem_map.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "util/log.h"
#include "util/util.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* glibc 2.35 */
#endif

#define THP_DIR "/sys/kernel/mm/transparent_hugepage/"
#define SMALL_GUEST MIB(16) /* a huge page is cleared whole when it is first touched */
#define NODES_MAX 1024u

static unsigned int page_shift(enum mem_pages pages)
{
	return pages == MEM_PAGES_1G ? 30 : 21;
}

uint64_t mem_page_bytes(enum mem_pages pages)
{
	return pages == MEM_PAGES_2M || pages == MEM_PAGES_1G ? 1ull << page_shift(pages) : 4096;
}

static bool is_hugetlb(const struct mem_options *options)
{
	return mem_page_bytes(options->pages) > 4096;
}

static int failed(const struct mem_options *options, int r)
{
	log_error("cannot map %llu MiB of guest memory: %s (give a smaller --mem)",
		  (unsigned long long)(options->len_bytes >> 20), strerror(-r));
	return r;
}

/* --- where from --- */

static int memfd(const struct mem_options *options, uint64_t len_bytes)
{
	unsigned int flags = MFD_CLOEXEC;
	int fd, r;

	if (is_hugetlb(options))
		flags |= MFD_HUGETLB | page_shift(options->pages) << MAP_HUGE_SHIFT;
	fd = memfd_create("guest-memory", flags);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)len_bytes) == 0)
		return fd;
	r = -errno;
	close(fd);
	return r;
}

/* Of huge pages as many as it takes are set aside at once: a guest must not find out later. */
static int map(const struct mem_options *options, void *at, struct mem_region *region)
{
	int flags = MAP_FIXED | (is_hugetlb(options) ? 0 : MAP_NORESERVE);

	if (options->shared) {
		region->fd = memfd(options, region->len_bytes);
		if (region->fd < 0)
			return region->fd;
		flags |= MAP_SHARED;
	} else {
		flags |= MAP_PRIVATE | MAP_ANONYMOUS;
		if (is_hugetlb(options))
			flags |= MAP_HUGETLB | (int)page_shift(options->pages) << MAP_HUGE_SHIFT;
	}
	region->hva = mmap(at, region->len_bytes, PROT_READ | PROT_WRITE, flags, region->fd, 0);
	return region->hva == MAP_FAILED ? -errno : 0;
}

/*
 * KVM maps guest memory by huge pages only where guest and host address agree modulo their
 * size, and Linux before 6.7 does not align a mapping by itself.
 * NORESERVE: the guest's RAM is only as large as what it touches.
 */
static int map_aligned(const struct mem_options *options, struct mem_region *region)
{
	uint64_t align = MAX(mem_page_bytes(options->pages), MIB(2)), head, total;
	char *room;
	int r;

	if (region->len_bytes == 0)
		return -EINVAL;
	if (__builtin_add_overflow(region->len_bytes, align, &total))
		return -ENOMEM;
	room = mmap(NULL, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return -errno;
	head = -(uintptr_t)room % align;
	r = map(options, room + head, region);
	if (r < 0) {
		munmap(room, total);
		if (region->fd >= 0)
			close(region->fd);
		return r;
	}
	if (head > 0)
		munmap(room, head);
	munmap(room + head + region->len_bytes, align - head);
	return 0;
}

static int no_huge_pages(const struct mem_options *options, int r)
{
	uint64_t kib = mem_page_bytes(options->pages) >> 10;

	if (r != -ENOMEM && r != -ENOENT && r != -ENODEV)
		return failed(options, r);
	log_error("cannot map %llu MiB of guest memory: not so many huge pages of %llu MiB are "
		  "free (as root: echo N > /sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages)",
		  (unsigned long long)(options->len_bytes >> 20), (unsigned long long)(kib >> 10),
		  (unsigned long long)kib);
	return r;
}

/* --- what they are to be like --- */

static int advise_huge(const struct mem_options *options, void *hva, uint64_t len_bytes)
{
	const char *path = options->shared ? THP_DIR "shmem_enabled" : THP_DIR "enabled";
	char modes[128] = "[never]";
	FILE *file = fopen(path, "re");

	if (file) {
		if (!fgets(modes, sizeof(modes), file))
			modes[0] = '\0';
		fclose(file);
	}
	if (!strstr(modes, "[never]") && !strstr(modes, "[deny]") &&
	    madvise(hva, len_bytes, MADV_HUGEPAGE) == 0)
		return 0;
	log_error("--mem hugepages=thp: this host has them switched off (as root: echo %s > %s)",
		  options->shared ? "advise" : "madvise", path);
	return -ENOTSUP;
}

/* What is asked for is not always given; nor is it missed. */
static void advise(const struct mem_options *options, uint8_t *hva, uint64_t len_bytes)
{
	if (options->pages == MEM_PAGES_OFF)
		madvise(hva, len_bytes, MADV_NOHUGEPAGE);
	else if (options->pages == MEM_PAGES_AUTO && len_bytes > SMALL_GUEST)
		madvise(hva + SMALL_GUEST, len_bytes - SMALL_GUEST, MADV_HUGEPAGE);
}

void mem_want_huge(const struct mem *mem, uint64_t gpa, uint64_t len_bytes)
{
	void *hva = mem_at(mem, gpa, len_bytes);

	if (hva && mem->pages != MEM_PAGES_OFF)
		madvise(hva, len_bytes, MADV_HUGEPAGE);
}

static int bind_node(unsigned int node, void *hva, uint64_t len_bytes)
{
	unsigned long mask[NODES_MAX / (8 * sizeof(unsigned long))] = {0};

	if (node < NODES_MAX) {
		mask[node / (8 * sizeof(mask[0]))] = 1ul << node % (8 * sizeof(mask[0]));
		if (syscall(SYS_mbind, hva, len_bytes, MPOL_BIND, mask, NODES_MAX, 0) == 0)
			return 0;
		if (errno != EINVAL) {
			int r = -errno;

			log_error("--mem numa=%u: %s", node, strerror(-r));
			return r;
		}
	}
	log_error("--mem numa=%u: this host has no memory there (its nodes: "
		  "/sys/devices/system/node/has_memory)", node);
	return -EINVAL;
}

static int prefault(void *hva, uint64_t len_bytes)
{
	int r = madvise(hva, len_bytes, MADV_POPULATE_WRITE) < 0 ? -errno : 0;

	if (r == -EINVAL)
		log_error("--mem prefault: needs Linux 5.14");
	else if (r < 0)
		log_error("--mem prefault: %llu MiB: %s (free some on this host, or give a smaller "
			  "--mem)", (unsigned long long)(len_bytes >> 20), strerror(-r));
	return r;
}

int mem_map(const struct mem_options *options, struct mem_region *region)
{
	int r;

	region->fd = -1;
	r = map_aligned(options, region);
	if (r < 0 && is_hugetlb(options))
		return no_huge_pages(options, r);
	if (r < 0)
		return failed(options, r);
	advise(options, region->hva, region->len_bytes);
	if (options->pages == MEM_PAGES_THP)
		r = advise_huge(options, region->hva, region->len_bytes);
	if (r == 0 && options->has_node)
		r = bind_node(options->node, region->hva, region->len_bytes);
	if (r == 0 && options->prefault)
		r = prefault(region->hva, region->len_bytes);
	if (r < 0)
		mem_unmap(region);
	return r;
}

void mem_unmap(const struct mem_region *region)
{
	munmap(region->hva, region->len_bytes);
	if (region->fd >= 0)
		close(region->fd);
}

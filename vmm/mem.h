/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM: sorted regions, fixed once created, so that every thread reads them without a
 * lock. mem_at is the only way from a guest physical address to a pointer.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEM_REGIONS_MAX 2

struct mem_region {
	uint64_t gpa;
	uint64_t len_bytes;
	uint8_t *hva;
	int fd; /* a memfd, or -1 */
};

enum mem_pages {
	MEM_PAGES_AUTO, /* transparent huge pages, but for small guests, if the host has them */
	MEM_PAGES_OFF,  /* small pages alone */
	MEM_PAGES_THP,  /* transparent huge pages, wherever they fit */
	MEM_PAGES_2M,   /* from the host's pool of huge pages, as these: */
	MEM_PAGES_1G,
};

struct mem {
	enum mem_pages pages; /* as asked for */
	unsigned int count;
	struct mem_region regions[MEM_REGIONS_MAX];
};

struct mem_options {
	uint64_t len_bytes; /* a multiple of mem_page_bytes */
	enum mem_pages pages;
	bool shared;   /* a memfd, which others can map, through /proc */
	bool prefault; /* all of it is there from the beginning */
	bool has_node; /* only from this NUMA node: */
	unsigned int node;
};

/* At least 4096. */
uint64_t mem_page_bytes(enum mem_pages pages);

/* Whether RAM of this length ends within so many bits of address. */
bool mem_fits(uint64_t len_bytes, unsigned int phys_bits);

/* Split around the hole below 4 GiB. 0 or -errno; logs. */
int mem_init(struct mem *mem, const struct mem_options *options);
void mem_finish(struct mem *mem);

/*
 * The host address of [gpa, gpa + len_bytes), or NULL where any of it is not RAM of one
 * region. A length of 0 is valid anywhere in RAM. The guest may change what is there at any
 * time: copy, check the copy, use the copy.
 */
void *mem_at(const struct mem *mem, uint64_t gpa, uint64_t len_bytes);

/* All of this RAM is about to be written, soonest in huge pages; unless these are off. */
void mem_want_huge(const struct mem *mem, uint64_t gpa, uint64_t len_bytes);

/* Copy in or out. 0 or -EFAULT. */
int mem_read(const struct mem *mem, uint64_t gpa, void *buf, size_t len_bytes);
int mem_write(const struct mem *mem, uint64_t gpa, const void *buf, size_t len_bytes);

/* End of the RAM below 4 GiB, and of all RAM (at least 4 GiB if there is high RAM). */
uint64_t mem_low_end(const struct mem *mem);
uint64_t mem_end(const struct mem *mem);
uint64_t mem_total(const struct mem *mem);

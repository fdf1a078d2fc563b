/* SPDX-License-Identifier: MIT */
/*
 * What memory costs. Each line from the console is a job,
 *
 *	touch|read|write|copy|chase bytes=N cycles=N
 *
 * which a line answers, with how much was done in how many cycles: pages that nobody had touched
 * before, of all memory given; pages read, written or copied, over and over in `bytes`; or loads
 * in `bytes` that each say where the next is. An empty line is the end.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"

#define PAGE 4096ull
#define LINE 64ull
#define REGION 0x4000000ull /* what jobs use, from here on: 64 MiB */
#define FRESH 0x10000000ull /* from 256 MiB on nothing is touched but by "touch" */
#define PAGES_AT_ONCE 16
#define LOADS_AT_ONCE 256

static uint64_t fresh = FRESH, position, chased, chase_bytes;

/* The loops are written out: what is measured is not the compiler's idea of the day. */
static void read_page(uint64_t at)
{
	uint64_t sum = 0;

	for (uint64_t *word = (uint64_t *)at, *end = word + PAGE / 8; word < end; word += 8)
		__asm__ volatile("add (%1), %0\n add 8(%1), %0\n add 16(%1), %0\n add 24(%1), %0\n"
				 "add 32(%1), %0\n add 40(%1), %0\n add 48(%1), %0\n"
				 "add 56(%1), %0"
				 : "+r"(sum)
				 : "r"(word)
				 : "memory", "cc");
}

static void write_page(uint64_t at)
{
	uint64_t count = PAGE / 8;

	__asm__ volatile("rep stosq" : "+D"(at), "+c"(count) : "a"(at) : "memory");
}

static void copy_page(uint64_t to, uint64_t from)
{
	uint64_t count = PAGE / 8;

	__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

static uint64_t next_page(uint64_t bytes)
{
	uint64_t at = REGION + position;

	position = (position + PAGE) % bytes;
	return at;
}

/* All that jobs but "touch" use is there before they begin. */
static void make_region(void)
{
	static bool made;

	for (uint64_t at = REGION; !made && at < FRESH; at += PAGE)
		*(volatile uint64_t *)at = at;
	made = true;
}

/* All lines of the region in one circle that no prefetcher follows: a full-period LCG. */
static void make_circle(uint64_t bytes)
{
	uint64_t lines = bytes / LINE, at = 0;

	if (chase_bytes == bytes)
		return;
	for (uint64_t i = 0; i < lines; i++) {
		uint64_t next = (at * 1664525 + 1013904223) & (lines - 1);

		*(uint64_t *)(REGION + at * LINE) = REGION + next * LINE;
		at = next;
	}
	chase_bytes = bytes;
	chased = REGION;
}

static uint64_t do_touch(uint64_t end, uint64_t until, uint64_t *now)
{
	uint64_t pages = 0;

	while (*now < until && fresh < end) {
		for (unsigned int i = 0; i < PAGES_AT_ONCE; i++, pages++, fresh += PAGE)
			*(volatile uint64_t *)fresh = 1;
		*now = rdtsc();
	}
	return pages;
}

static uint64_t do_chase(uint64_t until, uint64_t *now)
{
	uint64_t loads = 0;

	for (; *now < until; *now = rdtsc(), loads += LOADS_AT_ONCE)
		for (unsigned int i = 0; i < LOADS_AT_ONCE; i++)
			chased = *(volatile uint64_t *)chased;
	return loads;
}

static uint64_t do_pages(uint64_t bytes, uint64_t until, uint64_t *now)
{
	bool write = flag("write"), copy = flag("copy");
	uint64_t pages = 0;

	chase_bytes = 0;
	for (; *now < until; *now = rdtsc(), pages += PAGES_AT_ONCE)
		for (unsigned int i = 0; i < PAGES_AT_ONCE; i++) {
			uint64_t at = next_page(bytes);

			if (copy)
				copy_page(at + bytes, at);
			else if (write)
				write_page(at);
			else
				read_page(at);
		}
	return pages;
}

static void do_job(void)
{
	uint64_t bytes = param("bytes", 0x4000000), end = param("end", 0x20000000);
	uint64_t start, until, now, done;

	/* a copy needs two such places */
	CHECK(bytes >= PAGE && bytes * 2 <= FRESH - REGION && !(bytes & (bytes - 1)));
	if (!flag("touch"))
		make_region();
	if (flag("chase"))
		make_circle(bytes);
	now = start = rdtsc();
	until = start + param("cycles", 1000000000);
	if (flag("touch"))
		done = do_touch(end, until, &now);
	else if (flag("chase"))
		done = do_chase(until, &now);
	else
		done = do_pages(bytes, until, &now);
	print("cycles=%lu requests=%lu\n", now - start, done);
}

void guest_main(void)
{
	become_user();
	do_jobs(do_job);
}

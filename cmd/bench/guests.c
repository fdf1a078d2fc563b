/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cmd/bench/bench.h"
#include "util/log.h"
#include "util/util.h"

#define DECLARE(name) extern const unsigned char bench_guest_##name[], bench_guest_##name##_end[]
DECLARE(blk_rate);
DECLARE(exits);
DECLARE(irq);
DECLARE(net_rate);
DECLARE(ram);

#define GUEST(name) {"guest_" #name ".elf", bench_guest_##name, bench_guest_##name##_end}
static const struct {
	const char *name;
	const unsigned char *start, *end;
} guests[BENCH_GUEST_COUNT] = {
	[BENCH_GUEST_BLK] = GUEST(blk_rate),
	[BENCH_GUEST_EXITS] = GUEST(exits),
	[BENCH_GUEST_IRQ] = GUEST(irq),
	[BENCH_GUEST_NET] = GUEST(net_rate),
	[BENCH_GUEST_RAM] = GUEST(ram),
};

static int write_guest(int fd, enum bench_guest guest)
{
	return pwrite_full(fd, guests[guest].start,
			   (size_t)(guests[guest].end - guests[guest].start), 0);
}

int bench_guest_open(enum bench_guest guest)
{
	int fd = memfd_create(guests[guest].name, MFD_CLOEXEC), r;

	r = fd < 0 ? -errno : write_guest(fd, guest);
	if (!r)
		return fd;
	log_error("bench: cannot make a file in memory: %s", strerror(-r));
	if (fd >= 0)
		close(fd);
	return r;
}

int bench_guests_write(const char *dir)
{
	int folder = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd, r;

	if (folder < 0) {
		r = -errno;
		log_error("bench guests: %s: %s", dir, strerror(-r));
		return r;
	}
	for (int i = 0; i < BENCH_GUEST_COUNT; i++) {
		fd = openat(folder, guests[i].name, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666);
		r = fd < 0 ? -errno : write_guest(fd, (enum bench_guest)i);
		if (fd >= 0 && close(fd) < 0 && !r)
			r = -errno;
		if (r) {
			log_error("bench guests: %s/%s: %s", dir, guests[i].name, strerror(-r));
			break;
		}
	}
	close(folder);
	return r;
}

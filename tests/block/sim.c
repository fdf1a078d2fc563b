/* SPDX-License-Identifier: MIT */
#include "sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "block/impl.h"
#include "harness.h"
#include "sim_bytes.h"
#include "util/util.h"

#define SECTOR 512

enum kind { READ, WRITE, SYNC, ALLOCATE, DEFERRED };

struct sim_op {
	struct sim_op *next;
	enum kind kind;
	struct loop_op *op;
	const struct iovec *iov;
	unsigned int iovcnt;
	uint64_t offset, len;
	int mode;
	int err;
	uint64_t writes_before; /* a sync: number of writes that it covers */
};

static struct sim *to_sim(struct bio *bio)
{
	return CONTAINER_OF(bio, struct sim, bio);
}

static struct sim_op *enqueue(struct bio *bio, enum kind kind, struct loop_op *op)
{
	struct sim *sim = to_sim(bio);
	struct sim_op *o = calloc(1, sizeof(*o)), **last = &sim->queue;

	o->kind = kind;
	o->op = op;
	if (sim->dead && kind != DEFERRED) {
		o->err = -EIO;
	} else if (kind != DEFERRED) {
		sim->ops++;
		if (sim->fail_after == 0 || (sim->fail_after < -1 && sim->fail_from_then_on)) {
			o->err = sim->fail_errno;
			sim->fail_after = -2;
		} else if (sim->fail_after > 0) {
			sim->fail_after--;
		}
	}
	while (*last)
		last = &(*last)->next;
	*last = o;
	return o;
}

static void sim_readv(struct bio *bio, struct loop_op *op, const struct iovec *iov,
		      unsigned int iovcnt, uint64_t offset)
{
	struct sim_op *o = enqueue(bio, READ, op);

	o->iov = iov;
	o->iovcnt = iovcnt;
	o->offset = offset;
}

static void sim_writev(struct bio *bio, struct loop_op *op, const struct iovec *iov,
		       unsigned int iovcnt, uint64_t offset)
{
	struct sim_op *o = enqueue(bio, WRITE, op);

	o->iov = iov;
	o->iovcnt = iovcnt;
	o->offset = offset;
}

static void sim_fdatasync(struct bio *bio, struct loop_op *op)
{
	struct sim *sim = to_sim(bio);
	struct sim_op *o = enqueue(bio, SYNC, op);

	/* All that took effect so far: they are complete. */
	o->writes_before = sim->write_count ? sim->writes[sim->write_count - 1].number : 0;
}

static void sim_fallocate(struct bio *bio, struct loop_op *op, int mode, uint64_t offset,
			  uint64_t len)
{
	struct sim_op *o = enqueue(bio, ALLOCATE, op);

	o->mode = mode;
	o->offset = offset;
	o->len = len;
}

static void sim_defer(struct bio *bio, struct loop_op *op)
{
	enqueue(bio, DEFERRED, op);
}

static void sim_begin_sync(struct bio *bio)
{
	assert_null(to_sim(bio)->queue);
}

static void sim_run_sync(struct bio *bio)
{
	sim_run(to_sim(bio));
}

static int sim_truncate(struct bio *bio, uint64_t size)
{
	struct sim *sim = to_sim(bio);

	if (sim->dead)
		return -EIO;
	if (size < sim->high)
		memset(sim->now + size, 0, sim->high - size);
	sim->size = size;
	return 0;
}

static void sim_bio_destroy(struct bio *bio)
{
	/* The test owns it. */
}

static const struct bio_ops sim_ops = {
	.readv = sim_readv,
	.writev = sim_writev,
	.fdatasync = sim_fdatasync,
	.fallocate = sim_fallocate,
	.defer = sim_defer,
	.begin_sync = sim_begin_sync,
	.run_sync = sim_run_sync,
	.truncate = sim_truncate,
	.destroy = sim_bio_destroy,
};

/* --- taking effect --- */

static void note_write(struct sim *sim, uint64_t offset, uint64_t len, const void *data)
{
	static uint64_t number;
	struct sim_write *w;

	if (sim->write_count == sim->write_capacity) {
		sim->write_capacity = MAX(2 * sim->write_capacity, 256);
		sim->writes = realloc(sim->writes, sim->write_capacity * sizeof(*sim->writes));
	}
	w = &sim->writes[sim->write_count++];
	*w = (struct sim_write){.offset = offset, .len = len, .number = ++number};
	if (data) {
		w->data = malloc(len);
		memcpy(w->data, data, len);
	}
}

/* `len` bytes at `offset` change, for reads at once. */
static void change(struct sim *sim, uint64_t offset, uint64_t len, const void *data)
{
	assert_true(range_fits(offset, len, SIM_BYTES_MAX));
	if (data) {
		memcpy(sim->now + offset, data, len);
		sim->high = MAX(sim->high, offset + len);
	} else if (offset < sim->high) {
		memset(sim->now + offset, 0, MIN(len, sim->high - offset));
	}
	note_write(sim, offset, len, data);
}

/* Copy `len` bytes between the iovec and `buf`. */
static void copy_iov(const struct sim_op *o, unsigned char *buf, uint64_t len)
{
	for (unsigned int i = 0; i < o->iovcnt && len; i++) {
		uint64_t n = MIN(o->iov[i].iov_len, len);

		if (o->kind == READ)
			memcpy(o->iov[i].iov_base, buf, n);
		else
			memcpy(buf, o->iov[i].iov_base, n);
		buf += n;
		len -= n;
	}
}

static int do_transfer(struct sim *sim, const struct sim_op *o)
{
	unsigned char *buf;
	uint64_t len = 0, limit = UINT64_MAX;

	for (unsigned int i = 0; i < o->iovcnt; i++)
		len += o->iov[i].iov_len;
	if ((o->kind == READ ? sim->short_reads : sim->short_writes) && rnd(&sim->seed) % 8 == 0)
		limit = (1 + rnd(&sim->seed) % 16) * SECTOR;
	len = MIN(len, limit);
	if (o->kind == WRITE && sim->limit && o->offset + len > MAX(sim->limit, sim->size)) {
		if (o->offset >= sim->limit)
			return -ENOSPC;
		len = sim->limit - o->offset;
	}
	if (o->kind == READ) {
		len = o->offset < sim->size ? MIN(len, sim->size - o->offset) : 0;
		copy_iov(o, sim->now + o->offset, len);
		return (int)len;
	}
	buf = malloc(len);
	copy_iov(o, buf, len);
	change(sim, o->offset, len, buf);
	sim->size = MAX(sim->size, o->offset + len);
	free(buf);
	return (int)len;
}

static void put_on_disk(unsigned char *disk, const struct sim_write *w, uint64_t from, uint64_t to)
{
	if (w->data)
		memcpy(disk + w->offset + from, w->data + from, to - from);
	else
		memset(disk + w->offset + from, 0, to - from);
}

static int do_sync(struct sim *sim, const struct sim_op *o)
{
	unsigned int n = 0;

	for (; n < sim->write_count && sim->writes[n].number <= o->writes_before; n++) {
		put_on_disk(sim->durable, &sim->writes[n], 0, sim->writes[n].len);
		sim->durable_size = MAX(sim->durable_size,
					MIN(sim->size, sim->writes[n].offset + sim->writes[n].len));
		free(sim->writes[n].data);
	}
	sim->write_count -= n;
	if (n)
		memmove(sim->writes, sim->writes + n, sim->write_count * sizeof(*sim->writes));
	return 0;
}

static int do_allocate(struct sim *sim, const struct sim_op *o)
{
	if ((o->mode & FALLOC_FL_PUNCH_HOLE) ? sim->no_punch
	    : (o->mode & FALLOC_FL_ZERO_RANGE) ? sim->no_zero_range : sim->no_fallocate)
		return -EOPNOTSUPP;
	if (!(o->mode & ~FALLOC_FL_KEEP_SIZE) &&
	    (rnd(&sim->seed) % 256 < sim->no_space ||
	     (sim->limit && o->offset + o->len > MAX(sim->limit, sim->size))))
		return -ENOSPC;
	if (o->mode == FALLOC_FL_KEEP_SIZE) {
		sim->reserved++;
	} else if (!o->mode) {
		/* Of the file's size a cut knows by a write of nothing at its end. */
		sim->size = MAX(sim->size, o->offset + o->len);
		note_write(sim, sim->size, 0, NULL);
	} else if (o->offset < sim->size) {
		change(sim, o->offset, MIN(o->len, sim->size - o->offset), NULL);
	}
	return 0;
}

static int carry_out(struct sim *sim, const struct sim_op *o)
{
	if (o->err) {
		if (o->kind == WRITE && !sim->dead && rnd(&sim->seed) % 2)
			do_transfer(sim, o); /* a failed write may have had an effect */
		return o->err;
	}
	switch (o->kind) {
	case READ:
	case WRITE:
		return do_transfer(sim, o);
	case SYNC:
		return do_sync(sim, o);
	case ALLOCATE:
		return do_allocate(sim, o);
	case DEFERRED:
		break;
	}
	return 0;
}

static bool held(const struct sim *sim, const struct sim_op *o)
{
	return sim->hold_reads && o->kind == READ;
}

static bool step_here(struct sim *sim)
{
	struct sim_op **at = &sim->queue, *o;
	unsigned int n = 0;
	int res;

	for (o = *at; o; o = o->next)
		n += !held(sim, o);
	if (!n)
		return false;
	n = sim->in_order ? 0 : (unsigned int)(rnd(&sim->seed) % n);
	for (; held(sim, *at) || n; at = &(*at)->next)
		n -= !held(sim, *at);
	o = *at;
	*at = o->next;
	res = carry_out(sim, o);
	o->op->done(o->op, res);
	free(o);
	return true;
}

bool sim_step(struct sim *sim)
{
	struct sim *first = sim->below, *second = sim->data;

	if (!first && !second)
		return step_here(sim);
	if (rnd(&sim->seed) % 2 && step_here(sim))
		return true;
	if (second && rnd(&sim->seed) % 2) {
		first = sim->data;
		second = sim->below;
	}
	return (first && sim_step(first)) || (second && sim_step(second)) || step_here(sim);
}

void sim_run(struct sim *sim)
{
	while (sim_step(sim))
		;
}

/* --- whole disks --- */

struct sim *sim_create(uint64_t seed)
{
	struct sim *sim = calloc(1, sizeof(*sim));

	sim->now = sim_bytes_take();
	sim->durable = sim_bytes_take();
	sim->bio = (struct bio){.ops = &sim_ops, .io_align = 1, .mem_align = 1};
	sim->seed = seed * 2654435761u + 1;
	sim->fail_after = -1;
	return sim;
}

static void drop_writes(struct sim *sim)
{
	while (sim->write_count)
		free(sim->writes[--sim->write_count].data);
}

int sim_open_below(void *arg, const char *file, const char *format, struct blk **out)
{
	struct sim *sim = arg;

	assert_string_equal(format, "raw");
	sim->below = sim_create(sim->seed);
	sim_load(sim->below, file);
	return raw_create(&sim->below->bio, file, true, out);
}

int sim_open_data(void *arg, const char *file, struct blk **out)
{
	struct sim *sim = arg;

	return out ? raw_create(&sim->data->bio, file, false, out) : 0;
}

static void drop_queue(struct sim *sim)
{
	while (sim->queue) {
		struct sim_op *o = sim->queue;

		sim->queue = o->next;
		free(o);
	}
}

void sim_destroy(struct sim *sim)
{
	if (!sim)
		return;
	sim_destroy(sim->below);
	sim_destroy(sim->data);
	drop_queue(sim);
	drop_writes(sim);
	free(sim->writes);
	sim_bytes_leave(sim->now, sim->high);
	sim_bytes_leave(sim->durable, sim->high);
	free(sim);
}

void sim_load(struct sim *sim, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	assert_true(fd >= 0);
	sim->size = 0;
	while ((n = pread(fd, sim->now + sim->size, 1 << 20, (off_t)sim->size)) > 0)
		sim->size += (uint64_t)n;
	close(fd);
	memcpy(sim->durable, sim->now, sim->size);
	sim->durable_size = sim->size;
	sim->bio.size_bytes = sim->size;
	sim->high = MAX(sim->high, sim->size);
}

static void save(const char *path, const unsigned char *bytes, uint64_t size)
{
	static const unsigned char zero[4096];
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	for (uint64_t at = 0; at < size; at += sizeof(zero)) {
		size_t n = MIN(sizeof(zero), size - at);

		if (memcmp(bytes + at, zero, n))
			assert_int_equal(pwrite(fd, bytes + at, n, (off_t)at), n);
	}
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

void sim_save(struct sim *sim, const char *path)
{
	save(path, sim->now, sim->size);
}

void sim_save_durable(struct sim *sim, const char *path)
{
	save(path, sim->durable, sim->durable_size);
}

static void cut_write(struct sim *sim, const struct sim_write *w, unsigned int chance)
{
	for (uint64_t at = 0; at < w->len; at += SECTOR) {
		if (rnd(&sim->seed) % 256 >= chance)
			continue;
		put_on_disk(sim->durable, w, at, MIN(at + SECTOR, w->len));
		sim->durable_size = MAX(sim->durable_size, w->offset + at + SECTOR);
	}
	if (!w->len && rnd(&sim->seed) % 256 < chance)
		sim->durable_size = MAX(sim->durable_size, w->offset);
}

void sim_cut(struct sim *sim, unsigned int chance)
{
	/* What was under way when the power went may have had an effect as well. */
	for (struct sim_op *o = sim->queue; o; o = o->next) {
		if (o->kind == WRITE && !o->err && rnd(&sim->seed) % 2)
			do_transfer(sim, o);
		if (o->kind == ALLOCATE && !o->err && rnd(&sim->seed) % 2)
			do_allocate(sim, o);
		if (o->kind != DEFERRED)
			o->err = -EIO;
	}
	for (unsigned int i = 0; i < sim->write_count; i++)
		cut_write(sim, &sim->writes[i], chance);
	drop_writes(sim);
	sim->durable_size = MIN(sim->durable_size, sim->size);
	sim->dead = true;
	if (sim->data)
		sim_cut(sim->data, chance);
}

void sim_power_on(struct sim *sim)
{
	uint64_t size = sim->durable_size;

	assert_null(sim->queue);
	sim_destroy(sim->below);
	sim->below = NULL;
	memcpy(sim->now, sim->durable, MIN(size, sim->high));
	if (size < sim->high) {
		memset(sim->now + size, 0, sim->high - size);
		memset(sim->durable + size, 0, sim->high - size);
	}
	sim->size = size;
	sim->bio.size_bytes = size;
	sim->bio.flushing.err = 0;
	sim->dead = false;
	if (sim->data)
		sim_power_on(sim->data);
}

/* SPDX-License-Identifier: MIT */
/*
 * Requests of virtio-blk (virtio 1.2, section 5.2.6).
 *
 * A request is a chain: a 16-byte header to read, data to read or write, a status byte to
 * write; how they are cut into descriptors means nothing (2.7.4.3). Each head of a queue has a
 * slot, so a request allocates nothing: blk_take cuts the chain up into its head's slot and
 * submits it; request_done answers it. Answers of one batch are published together, by a
 * deferred op, the queue's turn.
 *
 *	blk_take -> parse -> start -> blk_submit ... request_done -> answer ... turn
 *	              |        |                       |     ^         ^
 *	              |        |                       +-----+         |
 *	              |        |                      next step        |
 *	              +--------+-------- refused, or nothing to do ----+
 *
 * A request may take several steps on the back end, one after the other: a discard or
 * write-zeroes takes one for each of its ranges, and in writethrough mode a flush follows what
 * writes (5.2.6.2).
 *
 * On a disk with limits a request may have to wait before its first step, behind those of all
 * queues that came before it; flushes, too. A discard is one operation, whatever its ranges.
 *
 * Memory: a slot has room for a few buffers; longer requests borrow one of the device's long
 * arrays, of which there are as many as were ever in use at once.
 */
#include "virtio/blk_request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"
#include "virtio/blk_limit.h"
#include "virtio/stats.h"

/* In place of a status for the driver: there is none yet. */
#define PENDING (-1)

/* What is left of a chain while it is taken apart. */
struct parts {
	struct iovec *out, *in;
	unsigned int out_count, in_count;
	uint64_t out_bytes, in_bytes;
};

/* --- answering --- */

void blk_maybe_quiesced(struct virtio_blk *vblk)
{
	if (!vblk->draining || vblk->busy)
		return;
	vblk->draining = false;
	virtio_quiesced(&vblk->dev);
}

void blk_defer_turn(struct blk_queue *queue)
{
	if (queue->turn_waits)
		return;
	queue->turn_waits = true;
	queue->vblk->busy++;
	loop_defer(queue->vblk->dev.loop, &queue->turn_op);
}

/* Near enough for all that is taken, or answered, at once. */
static uint64_t batch_ns(struct virtio_blk *vblk)
{
	if (!vblk->now_ns)
		vblk->now_ns = loop_now_ns(vblk->dev.loop);
	return vblk->now_ns;
}

static void count_answer(struct blk_request *req, uint8_t status)
{
	moment_note(&req->stats->first);
	histogram_add(&req->stats->latency_ns, batch_ns(req->queue->vblk) - req->start_ns);
	counter_add(&req->stats->bytes, status == VIRTIO_BLK_S_OK ? req->bytes : 0);
	counter_add(&req->stats->errors, status != VIRTIO_BLK_S_OK);
}

/* The slot's own memory goes back; the slot may be taken again. */
static void release(struct blk_request *req)
{
	struct virtio_blk *vblk = req->queue->vblk;

	if (!req->long_iov)
		return;
	req->long_iov->next = vblk->long_free;
	vblk->long_free = req->long_iov;
}

static void answer(struct blk_request *req, uint8_t status)
{
	struct blk_queue *queue = req->queue;
	struct virtio_dev *dev = &queue->vblk->dev;
	/* 2.7.8.2: the bytes written from the start without a gap. The status byte comes
	 * last, so it counts only after data that was filled to its end. */
	uint64_t written = status == VIRTIO_BLK_S_OK ? req->filled : 0;

	if (written == req->in_bytes)
		written++;
	*req->status = status;
	if (req->stats)
		count_answer(req, status);
	release(req);
	vq_push(dev->queues[queue->index].vq, req->head, (uint32_t)MIN(written, UINT32_MAX));
	blk_defer_turn(queue);
}

static void log_failure(struct blk_request *req, int err)
{
	static const char *const verbs[] = {
		[BLK_READ] = "reading", [BLK_WRITE] = "writing", [BLK_FLUSH] = "flushing",
		[BLK_DISCARD] = "discarding", [BLK_WRITE_ZEROES] = "zeroing",
	};
	struct virtio_blk *vblk = req->queue->vblk;

	log_guest(&vblk->error_limit, "%s: %s (offset %llu, length %llu): %s",
		  vblk->dev.name, verbs[req->blk.op], (unsigned long long)req->blk.offset_bytes,
		  (unsigned long long)req->blk.len_bytes, strerror(-err));
}

/* --- steps --- */

static void submit(struct blk_request *req)
{
	req->queue->vblk->busy++;
	blk_submit(req->queue->vblk->blk, &req->blk);
}

static bool writethrough(struct virtio_blk *vblk)
{
	if (!virtio_has(&vblk->dev, VIRTIO_BLK_F_FLUSH))
		return true;
	return virtio_has(&vblk->dev, VIRTIO_BLK_F_CONFIG_WCE) &&
	       !atomic_load_explicit(&vblk->writeback, memory_order_relaxed);
}

/* Submit what the request needs next. False: nothing, it is complete. */
static bool next_step(struct blk_request *req)
{
	struct blk_req *blk = &req->blk;

	while (req->next_range < req->ranges) {
		const struct virtio_blk_discard_write_zeroes *range =
			&req->range[req->next_range++];

		if (range->num_sectors == 0)
			continue;
		blk->unmap = range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
		blk->offset_bytes = range->sector * BLK_SECTOR;
		blk->len_bytes = (uint64_t)range->num_sectors * BLK_SECTOR;
		submit(req);
		return true;
	}
	if (blk->op == BLK_READ || blk->op == BLK_FLUSH || !writethrough(req->queue->vblk))
		return false;
	blk->op = BLK_FLUSH;
	blk->offset_bytes = blk->len_bytes = 0;
	blk->iovcnt = 0;
	submit(req);
	return true;
}

static void first_step(struct blk_request *req)
{
	if (!req->ranges)
		submit(req);
	else if (!next_step(req))
		answer(req, VIRTIO_BLK_S_OK);
}

/* --- the disk's limit --- */

_Static_assert((uint64_t)BLK_RANGES_MAX * BLK_RANGE_SECTORS_MAX * BLK_SECTOR <= BLK_LIMIT_PASS_MAX,
	       "blk_limit_pass");

/* Zeroes count as if they were written, which they are where the host knows no better. */
static uint64_t bytes_of(const struct blk_request *req)
{
	uint64_t bytes = 0;

	if (req->blk.op == BLK_READ || req->blk.op == BLK_WRITE)
		return req->blk.len_bytes;
	for (unsigned int i = 0; req->blk.op == BLK_WRITE_ZEROES && i < req->ranges; i++)
		bytes += (uint64_t)req->range[i].num_sectors * BLK_SECTOR;
	return bytes;
}

static void pass_waiting(void *arg)
{
	struct virtio_blk *vblk = arg;
	struct blk_request *req;

	while ((req = vblk->waiting) && blk_limit_pass(vblk->limit, bytes_of(req))) {
		vblk->waiting = req->next;
		first_step(req);
	}
	if (vblk->waiting)
		blk_limit_wait(vblk->limit, pass_waiting, vblk);
}

static void start_limited(struct blk_request *req)
{
	struct virtio_blk *vblk = req->queue->vblk;

	if (!vblk->waiting && blk_limit_pass(vblk->limit, bytes_of(req))) {
		first_step(req);
		return;
	}
	if (!vblk->waiting) {
		vblk->waiting_tail = &vblk->waiting;
		blk_limit_wait(vblk->limit, pass_waiting, vblk);
	}
	req->next = NULL;
	*vblk->waiting_tail = req;
	vblk->waiting_tail = &req->next;
}

void blk_drop_waiting(struct virtio_blk *vblk)
{
	struct blk_request *req, *next;

	if (!vblk->waiting)
		return;
	blk_limit_forget(vblk->limit);
	for (req = vblk->waiting; req; req = next) {
		next = req->next;
		release(req);
	}
	vblk->waiting = NULL;
}

/* What was found to be in order. */
static void start(struct blk_request *req)
{
	struct virtio_blk *vblk = req->queue->vblk;

	if (vblk->dev.stats) {
		req->stats = &vblk->dev.stats->ops[req->blk.op];
		req->start_ns = batch_ns(vblk);
		req->bytes = bytes_of(req);
	}
	if (vblk->limit)
		start_limited(req);
	else
		first_step(req);
}

static void request_done(struct blk_req *blk, int err)
{
	struct blk_request *req = CONTAINER_OF(blk, struct blk_request, blk);

	req->queue->vblk->busy--;
	if (!err && next_step(req))
		return;
	if (err && err != -ENOTSUP)
		log_failure(req, err);
	answer(req, err == 0 ? VIRTIO_BLK_S_OK :
		    err == -ENOTSUP ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR);
}

/* --- taking a chain apart --- */

/* Copy `len` bytes from the front of what the device may read, and cut them off. */
static bool cut_front(struct parts *parts, void *buf, size_t len)
{
	uint8_t *to = buf;

	if (parts->out_bytes < len)
		return false;
	parts->out_bytes -= len;
	while (len) {
		struct iovec *iov = parts->out;
		size_t n = MIN(len, iov->iov_len);

		memcpy(to, iov->iov_base, n);
		to += n;
		len -= n;
		iov->iov_base = (uint8_t *)iov->iov_base + n;
		iov->iov_len -= n;
		if (iov->iov_len == 0) {
			parts->out++;
			parts->out_count--;
		}
	}
	return true;
}

/* Cut the last byte off what the device may write, of which there is some. */
static uint8_t *cut_last(struct parts *parts)
{
	struct iovec *last = &parts->in[parts->in_count - 1];

	parts->in_bytes--;
	if (--last->iov_len == 0)
		parts->in_count--;
	return (uint8_t *)last->iov_base + last->iov_len;
}

static struct blk_long_iov *borrow_long_iov(struct virtio_blk *vblk)
{
	struct blk_long_iov *iov = vblk->long_free;

	if (iov)
		vblk->long_free = iov->next;
	else
		iov = malloc(sizeof(*iov));
	return iov;
}

/* Copy the buffers, which are the queue's, to where they last until the request is done. */
static bool keep_iov(struct blk_request *req, const struct iovec *iov, unsigned int count)
{
	struct iovec *to = req->iov;

	if (count > BLK_SEG_MAX)
		return false;
	if (count > BLK_SHORT_IOV) {
		req->long_iov = borrow_long_iov(req->queue->vblk);
		if (!req->long_iov) {
			log_guest(&req->queue->vblk->error_limit, "%s: out of memory",
				  req->queue->vblk->dev.name);
			return false;
		}
		to = req->long_iov->iov;
	}
	memcpy(to, iov, count * sizeof(*iov));
	req->blk.iov = to;
	req->blk.iovcnt = count;
	return true;
}

static bool in_disk(struct virtio_blk *vblk, uint64_t sector, uint64_t sectors)
{
	return range_fits(sector, sectors, vblk->info->size_bytes / BLK_SECTOR);
}

static int parse_read_write(struct blk_request *req, struct parts *parts, bool write,
			    uint64_t sector)
{
	struct virtio_blk *vblk = req->queue->vblk;
	uint64_t len = write ? parts->out_bytes : parts->in_bytes;
	uint64_t wrong = write ? parts->in_bytes : parts->out_bytes;

	if (len == 0 || len % BLK_SECTOR || wrong || !in_disk(vblk, sector, len / BLK_SECTOR))
		return VIRTIO_BLK_S_IOERR;
	if (write && vblk->info->readonly)
		return VIRTIO_BLK_S_IOERR;
	if (!keep_iov(req, write ? parts->out : parts->in,
		      write ? parts->out_count : parts->in_count))
		return VIRTIO_BLK_S_IOERR;
	req->blk.op = write ? BLK_WRITE : BLK_READ;
	req->blk.offset_bytes = sector * BLK_SECTOR;
	req->blk.len_bytes = len;
	req->filled = req->in_bytes;
	return PENDING;
}

static int parse_flush(struct blk_request *req)
{
	req->blk.op = BLK_FLUSH;
	req->blk.offset_bytes = req->blk.len_bytes = 0;
	req->blk.iovcnt = 0;
	return PENDING;
}

static int parse_get_id(struct blk_request *req, struct parts *parts)
{
	const char *from = req->queue->vblk->serial;
	uint32_t left = VIRTIO_BLK_ID_BYTES;

	if (parts->in_bytes == 0)
		return VIRTIO_BLK_S_IOERR;
	for (unsigned int i = 0; i < parts->in_count && left; i++) {
		uint32_t n = (uint32_t)MIN(left, parts->in[i].iov_len);

		memcpy(parts->in[i].iov_base, from, n);
		from += n;
		left -= n;
	}
	req->filled = VIRTIO_BLK_ID_BYTES - left;
	return VIRTIO_BLK_S_OK;
}

static int parse_ranges(struct blk_request *req, struct parts *parts, enum blk_op op)
{
	struct virtio_blk *vblk = req->queue->vblk;
	uint32_t known = op == BLK_WRITE_ZEROES ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	uint64_t bytes = parts->out_bytes;

	if (!virtio_has(&vblk->dev, op == BLK_DISCARD ? VIRTIO_BLK_F_DISCARD :
							VIRTIO_BLK_F_WRITE_ZEROES))
		return VIRTIO_BLK_S_UNSUPP;
	if (vblk->info->readonly || bytes == 0 || bytes % sizeof(req->range[0]) ||
	    bytes > sizeof(req->range) || parts->in_bytes)
		return VIRTIO_BLK_S_IOERR;
	cut_front(parts, req->range, bytes);
	req->ranges = (uint8_t)(bytes / sizeof(req->range[0]));
	for (unsigned int i = 0; i < req->ranges; i++)
		if (req->range[i].flags & ~known) /* 5.2.6.2 */
			return VIRTIO_BLK_S_UNSUPP;
	for (unsigned int i = 0; i < req->ranges; i++)
		if (req->range[i].num_sectors > BLK_RANGE_SECTORS_MAX ||
		    !in_disk(vblk, req->range[i].sector, req->range[i].num_sectors))
			return VIRTIO_BLK_S_IOERR;
	req->blk.op = op;
	return PENDING;
}

/* A status for the driver, or PENDING. */
static int parse(struct blk_request *req, struct parts *parts)
{
	struct virtio_blk_outhdr header;

	if (!cut_front(parts, &header, sizeof(header)))
		return VIRTIO_BLK_S_IOERR;
	switch (header.type) {
	case VIRTIO_BLK_T_IN:
		return parse_read_write(req, parts, false, header.sector);
	case VIRTIO_BLK_T_OUT:
		return parse_read_write(req, parts, true, header.sector);
	case VIRTIO_BLK_T_FLUSH:
		return parse_flush(req);
	case VIRTIO_BLK_T_GET_ID:
		return parse_get_id(req, parts);
	case VIRTIO_BLK_T_DISCARD:
		return parse_ranges(req, parts, BLK_DISCARD);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return parse_ranges(req, parts, BLK_WRITE_ZEROES);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/* False: the chain can not even be answered. */
bool blk_take(struct blk_queue *queue, const struct vq_chain *chain)
{
	struct blk_request *req = &queue->slots[chain->head];
	struct parts parts = {
		.out = chain->iov,
		.out_count = chain->out_count,
		.out_bytes = chain->out_bytes,
		.in = chain->iov + chain->out_count,
		.in_count = chain->in_count,
		.in_bytes = chain->in_bytes,
	};
	int status;

	if (chain->in_bytes == 0)
		return false;
	req->queue = queue;
	req->head = chain->head;
	req->long_iov = NULL;
	req->ranges = req->next_range = 0;
	req->status = cut_last(&parts);
	req->in_bytes = (uint32_t)parts.in_bytes;
	req->filled = 0;
	req->stats = NULL;
	req->blk.unmap = false;
	req->blk.done = request_done;
	status = parse(req, &parts);
	if (status == PENDING)
		start(req);
	else
		answer(req, (uint8_t)status);
	return true;
}

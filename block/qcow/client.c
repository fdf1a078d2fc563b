/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * libqcow reads images that we do not (QCOW1, AES), and gives a second opinion on those that we
 * do. It is known to crash, to hang and to read where it should not; so it runs as minivmm-qcow,
 * a process in a sandbox for this one image, and is asked over a socket. Our own parser has seen
 * the image before (image.c), and what libqcow makes of it must agree.
 *
 * Requests queue here. The first is served from the window, the part of the disk that the shared
 * memory holds; what that does not have is asked for, whole clusters as far as they fit, one
 * question at a time. The loop is never held up: answers come when the socket is readable. In
 * the bio's synchronous mode, before the loop runs, they are waited for.
 *
 * Nothing that the process says is believed: an answer fits its question exactly, or it is the
 * end. The data is the guest's, as good or bad as the image; that it may change while we copy is
 * of no matter. A process that dies, says nonsense, or says nothing for 5 s is killed, that is
 * said once, and all reads fail from then on.
 */
#include "block/qcow/client.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/wait.h>

#include "block/bio.h"
#include "block/impl.h"
#include "block/qcow/image.h"
#include "block/qcow/spawn.h"
#include "util/loop.h"
#include "util/util.h"

#define TIMEOUT_MS 5000
#define TICK_MS 500
#define SECTOR 512

/* In blk_req.priv */
struct client_req {
	TAILQ_ENTRY(client_req) link;
	uint64_t done_bytes;
};

struct qcow_client {
	struct blk blk;
	struct loop *loop;
	struct loop_watch *watch, *timer;
	struct qcow_process process;
	struct qcow_image image;
	TAILQ_HEAD(, client_req) queue;
	struct loop_op work_op;
	bool work_posted;
	bool dead;
	bool busy;                 /* `asked` is not answered */
	struct qcow_request asked;
	unsigned int ticks;        /* since it was asked */
	uint64_t window, window_len; /* what of the disk is in the slot */
	struct log_limit log_read;
};

static struct blk_req *to_req(struct client_req *cr)
{
	return CONTAINER_OF((void *)cr, struct blk_req, priv);
}

/* --- the end of the process --- */

static const char *how_it_ended(int err, int status)
{
	if (err == -ETIMEDOUT)
		return "did not answer within 5 s";
	if (err == -EPROTO)
		return "gave an answer that makes no sense";
	if (WIFSIGNALED(status))
		return strsignal(WTERMSIG(status));
	return "ended";
}

static void give_up(struct qcow_client *c, int err)
{
	int status = qcow_process_kill(&c->process);

	c->dead = true;
	c->busy = false;
	c->window_len = 0;
	loop_unwatch(c->loop, c->watch);
	loop_unwatch(c->loop, c->timer);
	c->watch = NULL;
	c->timer = NULL;
	log_error("disk %s: minivmm-qcow, which reads it by libqcow: %s (all reads fail from now "
		  "on; the image may be damaged)", c->blk.name, how_it_ended(err, status));
}

/* --- requests --- */

static void finish(struct qcow_client *c, struct client_req *cr, int err)
{
	struct blk_req *req = to_req(cr);

	TAILQ_REMOVE(&c->queue, cr, link);
	req->done(req, err);
}

/* The iovec's next `len` bytes get `from`, or zeroes. */
static void put(struct client_req *cr, const unsigned char *from, uint64_t len)
{
	const struct iovec *iov = to_req(cr)->iov;
	uint64_t skip = cr->done_bytes;

	cr->done_bytes += len;
	for (; skip >= iov->iov_len; iov++)
		skip -= iov->iov_len;
	for (; len; iov++, skip = 0) {
		uint64_t n = MIN(len, iov->iov_len - skip);
		char *to = (char *)iov->iov_base + skip;

		if (n && from)
			memcpy(to, from, n);
		else if (n)
			memset(to, 0, n);
		from = from ? from + n : NULL;
		len -= n;
	}
}

/* Copy what the window has. True if that was all. */
static bool serve(struct qcow_client *c, struct client_req *cr)
{
	const struct blk_req *req = to_req(cr);
	uint64_t at = req->offset_bytes + cr->done_bytes, left = req->len_bytes - cr->done_bytes;
	uint64_t n;

	if (at >= c->window && at - c->window < c->window_len) {
		n = MIN(left, c->window_len - (at - c->window));
		put(cr, c->process.slot + (at - c->window), n);
		at += n;
		left -= n;
	}
	if (left && at >= c->image.size_bytes) { /* the last sector's rest */
		put(cr, NULL, left);
		left = 0;
	}
	return !left;
}

/* Ask for the clusters of what is next. */
static void ask(struct qcow_client *c, struct client_req *cr)
{
	const struct blk_req *req = to_req(cr);
	uint64_t cluster = 1ull << c->image.cluster_bits;
	uint64_t start = align_down(req->offset_bytes + cr->done_bytes, cluster);
	uint64_t end = MIN(align_up(req->offset_bytes + req->len_bytes, cluster),
			   c->image.size_bytes);
	int r;

	c->window_len = 0;
	c->asked = (struct qcow_request){
		.op = QCOW_READ,
		.id = c->asked.id + 1,
		.offset_bytes = start,
		.len_bytes = (uint32_t)MIN(end - start, QCOW_SLOT_BYTES),
	};
	c->ticks = 0;
	c->busy = true;
	r = qcow_process_send(&c->process, &c->asked);
	if (r < 0)
		give_up(c, r);
	else if (c->timer)
		loop_watch_resume(c->loop, c->timer);
}

static void answered(struct qcow_client *c, const struct qcow_reply *reply)
{
	c->busy = false;
	if (!reply->failed) {
		c->window = c->asked.offset_bytes;
		c->window_len = c->asked.len_bytes;
		return;
	}
	log_guest(&c->log_read, "disk %s: libqcow cannot read the clusters at guest offset 0x%llx "
		  "(damaged)", c->blk.name, (unsigned long long)c->asked.offset_bytes);
	finish(c, TAILQ_FIRST(&c->queue), -EIO);
}

static void hear(struct qcow_client *c, int timeout_ms)
{
	struct qcow_reply reply;
	int r = qcow_process_hear(&c->process, &c->asked, timeout_ms, &reply);

	if (r == -EAGAIN && !timeout_ms)
		return;
	/* Unasked, there is but one thing to hear. */
	if (!c->busy && r != -EPIPE)
		r = -EPROTO;
	if (r < 0)
		give_up(c, r);
	else
		answered(c, &reply);
}

static void work(struct qcow_client *c)
{
	struct client_req *cr;

	while (!c->busy && (cr = TAILQ_FIRST(&c->queue))) {
		if (c->dead) {
			finish(c, cr, -EIO);
			continue;
		}
		if (serve(c, cr)) {
			finish(c, cr, 0);
			continue;
		}
		ask(c, cr);
		if (c->busy && bio_is_sync(c->blk.bio))
			hear(c, TIMEOUT_MS);
	}
}

static void work_now(struct loop_op *op, int res)
{
	struct qcow_client *c = CONTAINER_OF(op, struct qcow_client, work_op);

	c->work_posted = false;
	work(c);
}

static void client_submit(struct blk *blk, struct blk_req *req)
{
	struct qcow_client *c = CONTAINER_OF(blk, struct qcow_client, blk);
	struct client_req *cr = (struct client_req *)&req->priv;

	cr->done_bytes = 0;
	TAILQ_INSERT_TAIL(&c->queue, cr, link);
	if (c->work_posted)
		return;
	c->work_posted = true;
	blk->bio->ops->defer(blk->bio, &c->work_op);
}

/* --- what the loop tells --- */

static void readable(void *arg)
{
	struct qcow_client *c = arg;

	hear(c, 0);
	work(c);
}

/* Ticks are counted, not time: nobody is to blame for what a machine slept. */
static void tick(void *arg)
{
	struct qcow_client *c = arg;

	if (!c->busy) {
		loop_watch_pause(c->loop, c->timer);
		return;
	}
	if (++c->ticks <= TIMEOUT_MS / TICK_MS)
		return;
	give_up(c, -ETIMEDOUT);
	work(c);
}

/* --- opening and closing --- */

bool qcow_client_died(const struct blk *blk)
{
	return CONTAINER_OF(blk, struct qcow_client, blk)->dead;
}

static int client_close(struct blk *blk)
{
	struct qcow_client *c = CONTAINER_OF(blk, struct qcow_client, blk);

	loop_unwatch(c->loop, c->watch);
	loop_unwatch(c->loop, c->timer);
	qcow_process_finish(&c->process);
	blk_finish(blk);
	free(c);
	return 0;
}

static const struct blk_ops client_ops = {
	.submit = client_submit,
	.flush_and_free = client_close,
};

/* Once is enough, for all disks of the process. */
static void say_sandbox(const struct qcow_client *c, uint32_t sandbox)
{
	static atomic_flag said = ATOMIC_FLAG_INIT;

	log_debug("disk %s: read by libqcow, process %d", c->blk.name, (int)c->process.pid);
	if (!(sandbox & QCOW_SANDBOX_LANDLOCK) && !atomic_flag_test_and_set(&said))
		log_warn("this kernel has no Landlock: libqcow is confined by seccomp and limits "
			 "alone");
}

static int failed_to_start(struct qcow_client *c, int err)
{
	int status = qcow_process_kill(&c->process);

	log_error("disk %s: minivmm-qcow, which is to read it by libqcow, did not start: %s "
		  "(seccomp is needed)", c->blk.name, how_it_ended(err, status));
	return -EIO;
}

/* What libqcow makes of the image must be what we made of it. */
static int compare(const struct qcow_client *c, const struct qcow_reply *reply)
{
	const struct qcow_image *image = &c->image;

	if (reply->failed) {
		log_error("disk %s: libqcow does not open it (damaged?)", c->blk.name);
		return -EINVAL;
	}
	if (reply->size_bytes == image->size_bytes && reply->version == image->version &&
	    reply->encrypted == image->encrypted && !reply->backed)
		return 0;
	log_error("disk %s: libqcow takes it for another image than it is (version %u, %llu bytes)",
		  c->blk.name, reply->version, (unsigned long long)reply->size_bytes);
	return -EINVAL;
}

static int open_image(struct qcow_client *c, const struct qcow_options *opts)
{
	struct qcow_request req = {.op = QCOW_READY};
	struct qcow_reply reply;
	int r = qcow_process_hear(&c->process, &req, TIMEOUT_MS, &reply);

	if (r < 0)
		return failed_to_start(c, r);
	say_sandbox(c, reply.sandbox);
	req = (struct qcow_request){.op = QCOW_OPEN,
				    .flags = (opts->has_key ? QCOW_OPEN_KEY : 0u) |
					     (opts->compare ? QCOW_OPEN_ALONE : 0u)};
	memcpy(req.key, opts->key, sizeof(req.key));
	r = qcow_process_send(&c->process, &req);
	explicit_bzero(req.key, sizeof(req.key));
	if (!r)
		r = qcow_process_hear(&c->process, &req, TIMEOUT_MS, &reply);
	if (r < 0) {
		give_up(c, r);
		return -EIO;
	}
	return compare(c, &reply);
}

static int start(struct qcow_client *c, const struct qcow_options *opts)
{
	const struct qcow_check check = {opts->name, opts->has_key, opts->compare};
	int r = qcow_image_check(c->blk.bio, &check, &c->image);

	if (!r)
		r = qcow_process_start(&c->process, opts->program, opts->fd, opts->name);
	if (!r)
		r = open_image(c, opts);
	if (r < 0)
		return r;
	c->watch = loop_watch_ready(c->loop, c->process.socket, POLLIN, readable, c);
	c->timer = loop_watch_timer(c->loop, TICK_MS, tick, c);
	if (!c->watch || !c->timer)
		return -ENOMEM;
	c->blk.info = (struct blk_info){
		.size_bytes = align_up(c->image.size_bytes, SECTOR),
		.block_bytes = MIN(4096u, 1u << c->image.cluster_bits),
		.cluster_bytes = 1u << c->image.cluster_bits,
		.readonly = true,
		.format = c->image.version == 1 ? "qcow" : "qcow2",
	};
	return 0;
}

int qcow_client_create(struct bio *bio, const struct qcow_options *opts, struct blk **out)
{
	struct qcow_client *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->loop = opts->loop;
	c->process.socket = -1;
	c->work_op.done = work_now;
	TAILQ_INIT(&c->queue);
	r = blk_init(&c->blk, &client_ops, bio, opts->name);
	if (!r)
		r = start(c, opts);
	if (r < 0) {
		loop_unwatch(c->loop, c->watch);
		loop_unwatch(c->loop, c->timer);
		qcow_process_finish(&c->process);
		free(c->blk.name);
		free(c);
		return r;
	}
	*out = &c->blk;
	return 0;
}

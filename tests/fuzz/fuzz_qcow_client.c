/* SPDX-License-Identifier: MIT */
/*
 * The client of minivmm-qcow, whatever that says. In place of the process there is a script: how
 * each answer goes, and its bytes; before them, what is read of the disk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "block/bio.h"
#include "block/block.h"
#include "block/qcow/client.h"
#include "block/qcow/spawn.h"
#include "qcow2_file.h"
#include "script.h"
#include "util/loop.h"

#define REQS 8
#define DISK_BYTES (MIB(8) - 100)
#define SLOT_BYTE 0x5a

/* An empty disk of version 1, of clusters of 4 KiB. */
static const uint8_t image[80] = {
	'Q', 'F', 'I', 0xfb, 0, 0, 0, 1,
	[28] = 0, 0x7f, 0xff, 0x9c,
	[32] = 12, 9,
	[47] = 48,
};

static struct script script;
static unsigned char slot[QCOW_SLOT_BYTES];

/* --- the process --- */

int qcow_process_start(struct qcow_process *p, const char *program, int image_fd,
		       const char *name)
{
	*p = (struct qcow_process){.pid = 1, .socket = 0, .slot = slot};
	return 0;
}

static struct qcow_reply good_reply(const struct qcow_request *asked)
{
	return (struct qcow_reply){
		.op = asked->op,
		.id = asked->id,
		.len_bytes = asked->len_bytes,
		.size_bytes = DISK_BYTES,
		.version = 1,
		.sandbox = QCOW_SANDBOX_SECCOMP | QCOW_SANDBOX_LANDLOCK,
	};
}

int qcow_process_send(struct qcow_process *p, const struct qcow_request *req)
{
	if (req->op == QCOW_READ &&
	    (!range_fits(req->offset_bytes, req->len_bytes, DISK_BYTES) || !req->len_bytes ||
	     req->len_bytes > QCOW_SLOT_BYTES))
		abort(); /* never asked for */
	return script_u8(&script) == 0xff ? -EAGAIN : 0;
}

int qcow_process_hear(struct qcow_process *p, const struct qcow_request *asked, int timeout_ms,
		      struct qcow_reply *out)
{
	struct qcow_reply reply = good_reply(asked);
	unsigned char packet[sizeof(reply) + 1];
	unsigned int at, way = script_u8(&script);

	switch (way % 8) {
	case 1:
		at = script_u8(&script) % sizeof(reply);
		((unsigned char *)&reply)[at] ^= script_u8(&script);
		break;
	case 2:
		at = script_u8(&script) % (sizeof(packet) + 1);
		script_bytes(&script, packet, at);
		return qcow_reply_parse(packet, at, asked, out);
	case 3:
		return -EPIPE;
	case 4:
		return -ETIMEDOUT;
	case 5:
		return -EAGAIN;
	}
	return qcow_reply_parse(&reply, sizeof(reply), asked, out);
}

int qcow_process_kill(struct qcow_process *p)
{
	p->pid = 0;
	return 0;
}

void qcow_process_finish(struct qcow_process *p)
{
	p->slot = NULL;
}

/* --- what is read --- */

struct job {
	struct blk_req req;
	struct iovec iov[2];
	unsigned char *buf;
	unsigned int answers;
};

static void answered(struct blk_req *req, int err)
{
	CONTAINER_OF(req, struct job, req)->answers++;
	if (err && err != -EIO)
		abort();
	for (uint64_t i = 0; !err && i < req->len_bytes; i += 511) {
		unsigned char want = req->offset_bytes + i < DISK_BYTES ? SLOT_BYTE : 0;

		if (CONTAINER_OF(req, struct job, req)->buf[i] != want)
			abort();
	}
}

static void submit(struct blk *blk, struct job *job)
{
	uint64_t sectors = blk_info(blk)->size_bytes / 512, at = script_u16(&script) % sectors;
	uint64_t count = 1u + script_u8(&script) % 16, len = 512 * MIN(count, sectors - at);
	uint64_t cut = script_u16(&script) % (len + 1);

	job->buf = malloc(len);
	if (!job->buf)
		abort();
	job->iov[0] = (struct iovec){job->buf, cut};
	job->iov[1] = (struct iovec){job->buf + cut, len - cut};
	job->req = (struct blk_req){.op = BLK_READ, .offset_bytes = 512 * at, .len_bytes = len,
				    .iov = job->iov, .iovcnt = 2, .done = answered};
	blk_submit(blk, &job->req);
	if (job->answers)
		abort();
}

static void read_some(struct blk *blk)
{
	struct job jobs[REQS] = {0};
	unsigned int count = script_u8(&script) % (REQS + 1);

	for (unsigned int i = 0; i < count; i++)
		submit(blk, &jobs[i]);
	fuzz_run();
	for (unsigned int i = 0; i < count; i++) {
		if (jobs[i].answers != 1)
			abort();
		free(jobs[i].buf);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct loop *loop;
	struct qcow_options opts = {.name = "fuzz", .fd = -1};
	struct blk *blk;

	if (!loop) {
		if (loop_create("fuzz", &loop) < 0)
			abort();
		memset(slot, SLOT_BYTE, sizeof(slot));
	}
	opts.loop = loop;
	script = (struct script){data, len};
	fuzz_file_load(image, sizeof(image), FUZZ_READONLY);
	if (qcow_client_create(fuzz_bio(FUZZ_READONLY), &opts, &blk) < 0)
		return 0;
	for (unsigned int i = 0; i < 4 && script.left; i++)
		read_some(blk);
	blk_close(blk);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * minivmm-qcow: libqcow in a process of its own, in a sandbox (sandbox.c), for one image.
 * minivmm starts it with three file descriptors and nothing else (proto.h) and asks for
 * what it wants read. It ends when minivmm hangs up, or dies.
 *
 * It goes by the rule that whoever asks is minivmm, and whatever the image says is a lie. libqcow
 * is not so careful: therefore the walls.
 */
#include <libqcow.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/qcow/child_io.h"
#include "block/qcow/proto.h"
#include "block/qcow/sandbox.h"

struct child {
	libqcow_file_t *file;
	uint64_t disk_bytes; /* 0: not open */
	unsigned char *slot;
};

/* --- what is asked --- */

static int open_file(struct child *child, const struct qcow_request *req)
{
	if (libqcow_file_initialize(&child->file, NULL) != 1)
		return -1;
	/* The bytes of a password are the key in this format; libqcow's own passwords would
	 * be limited in length and kind. */
	if (req->flags & QCOW_OPEN_ALONE)
		qcow_io_hide_backing();
	if ((req->flags & QCOW_OPEN_KEY) &&
	    libqcow_file_set_keys(child->file, req->key, sizeof(req->key), NULL) != 1)
		return -1;
	return libqcow_file_open(child->file, QCOW_IMAGE_NAME, LIBQCOW_OPEN_READ, NULL) == 1
		       ? 0 : -1;
}

static int describe(struct child *child, struct qcow_reply *reply)
{
	uint32_t method = LIBQCOW_ENCRYPTION_METHOD_NONE;
	size_t name_len = 0;
	size64_t size = 0;

	if (libqcow_file_get_media_size(child->file, &size, NULL) != 1 || !size ||
	    size > QCOW_DISK_MAX ||
	    libqcow_file_get_format_version(child->file, &reply->version, NULL) != 1 ||
	    libqcow_file_get_encryption_method(child->file, &method, NULL) != 1 ||
	    libqcow_file_get_utf8_backing_filename_size(child->file, &name_len, NULL) < 0)
		return -1;
	reply->encrypted = method != LIBQCOW_ENCRYPTION_METHOD_NONE;
	reply->backed = name_len > 0;
	reply->size_bytes = size;
	return 0;
}

static void do_open(struct child *child, struct qcow_request *req, struct qcow_reply *reply)
{
	if (open_file(child, req) < 0 || describe(child, reply) < 0)
		reply->failed = 1;
	else
		child->disk_bytes = reply->size_bytes;
	explicit_bzero(req->key, sizeof(req->key));
}

static void do_read(struct child *child, const struct qcow_request *req, struct qcow_reply *reply)
{
	uint32_t got = 0;
	ssize_t n;

	while (got < req->len_bytes) {
		n = libqcow_file_read_buffer_at_offset(child->file, child->slot + got,
						       req->len_bytes - got,
						       (off64_t)(req->offset_bytes + got), NULL);
		if (n <= 0 || n > req->len_bytes - got)
			break;
		got += (uint32_t)n;
	}
	reply->failed = got < req->len_bytes;
	reply->len_bytes = got;
}

/* --- the conversation --- */

static int say(const struct qcow_reply *reply)
{
	return send(QCOW_FD_SOCKET, reply, sizeof(*reply), MSG_NOSIGNAL) == sizeof(*reply) ? 0 : -1;
}

/* One request. 0, or -1 where there is no more. */
static int serve(struct child *child)
{
	struct qcow_reply reply = {0};
	struct qcow_request req;
	char packet[sizeof(req) + 1];
	ssize_t n = recv(QCOW_FD_SOCKET, packet, sizeof(packet), 0);

	if (n <= 0 || qcow_request_parse(packet, (size_t)n, child->disk_bytes, &req) < 0)
		return -1;
	explicit_bzero(packet, sizeof(packet));
	reply.op = req.op;
	reply.id = req.id;
	if (req.op == QCOW_OPEN)
		do_open(child, &req, &reply);
	else
		do_read(child, &req, &reply);
	return say(&reply);
}

/* True if we were started as we should be. */
static bool have_fds(void)
{
	struct stat st;

	return fstat(QCOW_FD_IMAGE, &st) == 0 && fstat(QCOW_FD_SOCKET, &st) == 0 && S_ISSOCK(st.st_mode) &&
	       fstat(QCOW_FD_SLOT, &st) == 0 && st.st_size == QCOW_SLOT_BYTES;
}

static int start(struct child *child)
{
	struct qcow_reply ready = {.op = QCOW_READY};
	int sandbox;

	child->slot = mmap(NULL, QCOW_SLOT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			   QCOW_FD_SLOT, 0);
	if (child->slot == MAP_FAILED)
		return -1;
	sandbox = sandbox_enter();
	if (sandbox < 0)
		return -1;
	ready.sandbox = (uint32_t)sandbox;
	return say(&ready);
}

int main(void)
{
	struct child child = {0};

	if (!have_fds()) {
		fputs("minivmm-qcow: minivmm runs this, where a disk needs it\n", stderr);
		return 2;
	}
	if (start(&child) < 0)
		return 1;
	while (serve(&child) == 0)
		;
	return 0;
}

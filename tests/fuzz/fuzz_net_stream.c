/* SPDX-License-Identifier: MIT */
/*
 * Frames from a peer that writes what it likes, in pieces of any size, read into buffers of any
 * shape. A model that has all bytes at once says what must come out, and when.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/stream.h"
#include "script.h"
#include "util/util.h"

#define HDR 12
#define WRITTEN_MAX (1 << 18)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct target {
	struct net *net;
	int peer;
	bool closed;
	size_t written, taken; /* bytes of the stream, and whole frames of it received */
	uint8_t stream[WRITTEN_MAX];
	uint8_t packet[HDR + STREAM_FRAME_MAX];
};

static void demand(bool condition)
{
	if (!condition)
		abort();
}

/* Bytes of the script, and behind them many of one kind: a frame may be long. */
static void peer_writes(struct target *t, struct script *script)
{
	size_t len = script_u8(script), more = script_u8(script) & 1 ? script_u16(script) : 0;
	uint8_t *at = t->stream + t->written;
	ssize_t n;

	if (t->closed || t->written + len + more > WRITTEN_MAX)
		return;
	script_bytes(script, at, len);
	memset(at + len, (int)len, more);
	n = send(t->peer, at, len + more, MSG_DONTWAIT | MSG_NOSIGNAL);
	t->written += n > 0 ? (size_t)n : 0;
}

static void peer_closes(struct target *t)
{
	shutdown(t->peer, SHUT_WR);
	t->closed = true;
}

/* What is next: the frame's length, 0 if it is not all there, -ENODEV. */
static ssize_t expected(const struct target *t)
{
	const uint8_t *at = t->stream + t->taken;
	size_t left = t->written - t->taken;
	uint32_t len;

	if (left >= 4) {
		len = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
		if (!len || len > STREAM_FRAME_MAX)
			return -ENODEV;
		if (left - 4 >= len)
			return len;
	}
	return t->closed ? -ENODEV : 0;
}

static void receive(struct target *t, struct script *script)
{
	ssize_t want = expected(t), len = -EAGAIN;
	struct iovec iov[5];
	size_t room = 0;

	for (unsigned int i = 0; i < 5; i++) {
		size_t part = i < 4 ? script_u8(script) % 64 : script_u16(script);

		if (i == 4 && part & 1) /* else less than the frame, perhaps */
			part = sizeof(t->packet) - room;
		part = MIN(part, sizeof(t->packet) - room);
		iov[i] = (struct iovec){ t->packet + room, part };
		room += part;
	}
	/* A frame gathered takes some calls; each gets what is there. */
	for (int i = 0; i < 3 && len == -EAGAIN; i++)
		len = t->net->ops->recv(t->net, 0, iov, 5);
	if (want <= 0) {
		demand(len == (want ? -ENODEV : -EAGAIN));
		return;
	}
	demand(len == (ssize_t)MIN(room, HDR + (size_t)want));
	for (size_t i = 0; i < MIN((size_t)len, HDR); i++)
		demand(t->packet[i] == 0);
	if (len > HDR)
		demand(!memcmp(t->packet + HDR, t->stream + t->taken + 4, (size_t)len - HDR));
	t->taken += 4 + (size_t)want;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct script script = { data, len };
	struct target *t = calloc(1, sizeof(*t));
	int fds[2];

	demand(t && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	demand(stream_create(fds[0], NULL, "peer", 1500, &t->net) == 0);
	t->peer = fds[1];
	while (script.left) {
		uint8_t op = script_u8(&script) % 8;

		if (op < 4)
			receive(t, &script);
		else if (op < 7)
			peer_writes(t, &script);
		else if (script_u8(&script) == 0xee)
			peer_closes(t);
	}
	net_close(t->net);
	close(t->peer);
	free(t);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/* Frames over a stream, whatever the pieces they come and go in: whole, in order, one a call. */
#include <errno.h>
#include <linux/virtio_net.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/stream.h"
#include "util/util.h"

#define HDR sizeof(struct virtio_net_hdr_v1)
#define PREFIX 4
#define FRAME_MAX STREAM_FRAME_MAX
#define GUARD 0xa5

struct test {
	struct net *net;
	int peer;
};

static uint8_t packet[HDR + FRAME_MAX + 1], wire[PREFIX + FRAME_MAX];

static int setup(void **state)
{
	struct test *t = calloc(1, sizeof(*t));
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_int_equal(stream_create(fds[0], NULL, "the peer", 1500, &t->net), 0);
	t->peer = fds[1];
	srand(1);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;

	net_close(t->net);
	close(t->peer);
	free(t);
	return 0;
}

/* Frame `seed` has `len` such bytes. */
static uint8_t pattern(unsigned int seed, size_t i)
{
	return (uint8_t)(seed * 31 + i * 7 + i / 256);
}

static size_t put_frame(uint8_t *to, unsigned int seed, size_t len)
{
	for (unsigned int i = 0; i < PREFIX; i++)
		to[i] = (uint8_t)(len >> 8 * (3 - i));
	for (size_t i = 0; i < len; i++)
		to[PREFIX + i] = pattern(seed, i);
	return PREFIX + len;
}

static void peer_writes(struct test *t, const void *data, size_t len)
{
	assert_int_equal(send(t->peer, data, len, MSG_DONTWAIT | MSG_NOSIGNAL), len);
}

static bool readable(struct test *t)
{
	struct pollfd pfd = { .fd = t->net->fds[0], .events = POLLIN };

	return poll(&pfd, 1, 0) == 1;
}

/* `packet` in random pieces, the first of them small more often than not. */
static unsigned int cut(struct iovec *iov, size_t len)
{
	unsigned int count = 0;

	for (size_t at = 0; at < len; count++) {
		size_t part = 1 + (size_t)rand() % (rand() % 2 ? 12 : len - at);

		part = count == 60 ? len - at : MIN(part, len - at);
		iov[count] = (struct iovec){ packet + at, part };
		at += part;
	}
	return count;
}

static ssize_t receive(struct test *t, size_t room)
{
	struct iovec iov[64];
	unsigned int count = cut(iov, room);

	memset(packet, GUARD, sizeof(packet));
	return t->net->ops->recv(t->net, 0, iov, count);
}

static void got_frame(unsigned int seed, ssize_t r, size_t len)
{
	static const uint8_t zeroes[HDR];

	assert_int_equal(r, HDR + len);
	assert_memory_equal(packet, zeroes, HDR);
	for (size_t i = 0; i < len; i++)
		if (packet[HDR + i] != pattern(seed, i))
			fail_msg("byte %zu of frame %u differs", i, seed);
	assert_int_equal(packet[HDR + len], GUARD);
}

static void byte_by_byte(void **state)
{
	struct test *t = *state;

	for (unsigned int seed = 0; seed < 3; seed++) {
		size_t bytes = put_frame(wire, seed, 60 + seed);

		for (size_t i = 0; i < bytes; i++) {
			assert_int_equal(receive(t, 2000), -EAGAIN);
			peer_writes(t, wire + i, 1);
		}
		got_frame(seed, receive(t, 2000), 60 + seed);
	}
	assert_int_equal(receive(t, 2000), -EAGAIN);
}

/* One frame a call; while one is left the socket says so, and no longer. */
static void merged_frames(void **state)
{
	static const size_t lens[] = { 60, 1, 1514, 14, 60, 4, 3000, 60 };
	struct test *t = *state;
	size_t bytes = 0;

	for (unsigned int i = 0; i < ARRAY_LEN(lens); i++)
		bytes += put_frame(wire + bytes, i, lens[i]);
	peer_writes(t, wire, bytes);
	for (unsigned int i = 0; i < ARRAY_LEN(lens); i++) {
		assert_true(readable(t));
		got_frame(i, receive(t, 4000), lens[i]);
	}
	assert_false(readable(t));
	assert_int_equal(receive(t, 4000), -EAGAIN);
}

static void any_frames_in_any_pieces(void **state)
{
	static uint8_t stream[1 << 20];
	static size_t lens[4096];
	struct test *t = *state;
	size_t bytes = 0, at = 0;
	unsigned int frames = 0, got = 0;

	while (bytes < sizeof(stream) - sizeof(wire) && frames < ARRAY_LEN(lens)) {
		lens[frames] = 1 + (size_t)rand() % (rand() % 8 ? 2000 : FRAME_MAX);
		bytes += put_frame(stream + bytes, frames, lens[frames]);
		frames++;
	}
	while (got < frames) {
		size_t part = 1 + (size_t)rand() % (rand() % 2 ? 70000 : 3000);
		ssize_t r = send(t->peer, stream + at, MIN(part, bytes - at), MSG_DONTWAIT);

		at += r > 0 ? (size_t)r : 0;
		for (int i = rand() % 4; i > 0; i--) {
			r = receive(t, HDR + FRAME_MAX);
			if (r != -EAGAIN)
				got_frame(got, r, lens[got]), got++;
		}
	}
	assert_int_equal(at, bytes);
}

static void cuts_what_does_not_fit(void **state)
{
	struct test *t = *state;

	for (size_t room = HDR; room < HDR + 100; room += 33) {
		peer_writes(t, wire, put_frame(wire, 1, 100));
		peer_writes(t, wire, put_frame(wire, 2, 60));
		got_frame(1, receive(t, room), room - HDR);
		got_frame(2, receive(t, 2000), 60);
	}
}

static void as_many_entries_as_there_can_be(void **state)
{
	struct test *t = *state;
	struct iovec iov[1025];

	memset(packet, 0, sizeof(packet));
	for (unsigned int i = 0; i < 1025; i++)
		iov[i] = (struct iovec){ packet + 16 * i, 16 };
	peer_writes(t, wire, put_frame(wire, 1, 16 * 1024 - HDR));
	peer_writes(t, wire, put_frame(wire, 2, 60));
	assert_int_equal(t->net->ops->recv(t->net, 0, iov, 1025), -EINVAL);
	assert_int_equal(t->net->ops->recv(t->net, 0, iov, 1024), 16 * 1024);
	packet[16 * 1024] = GUARD;
	got_frame(1, 16 * 1024, 16 * 1024 - HDR);
	got_frame(2, receive(t, 2000), 60);

	/* the header shares the first entry with the frame, so the length needs one more */
	memset(packet, 0, HDR);
	assert_int_equal(t->net->ops->send(t->net, 0, iov, 1025), -EINVAL);
	assert_int_equal(t->net->ops->send(t->net, 0, iov, 1024), 16 * 1024);
	assert_int_equal(t->net->ops->flush(t->net), 0);
	assert_int_equal(recv(t->peer, wire, sizeof(wire), MSG_DONTWAIT), PREFIX + 16 * 1024 - HDR);
	assert_memory_equal(wire + PREFIX, packet + HDR, 16 * 1024 - HDR);
}

static void is_lost(struct test *t, const char *why)
{
	struct iovec iov = { packet, 72 };

	memset(packet, 0, sizeof(packet));
	assert_true(readable(t));
	assert_int_equal(receive(t, 2000), -ENODEV);
	assert_string_equal(t->net->lost, why);
	assert_int_equal(receive(t, 2000), -ENODEV);
	memset(packet, 0, HDR);
	assert_int_equal(t->net->ops->send(t->net, 0, &iov, 1), -ENODEV);
	assert_int_equal(t->net->ops->flush(t->net), -ENODEV);
	assert_string_equal(t->net->lost, why);
}

static void length_of_zero(void **state)
{
	struct test *t = *state;

	peer_writes(t, "\0\0\0", 3);
	assert_int_equal(receive(t, 2000), -EAGAIN);
	peer_writes(t, "\0", 1);
	is_lost(t, "the peer sent a frame of 0 bytes");
}

/* Of the length alone, and behind a good frame, where the poll has nothing to wait for. */
static void huge_length(void **state)
{
	struct test *t = *state;
	size_t bytes = put_frame(wire, 1, 60);

	memcpy(wire + bytes, "\xff\xff\xff\xff", 4);
	peer_writes(t, wire, bytes + 4);
	got_frame(1, receive(t, 2000), 60);
	is_lost(t, "the peer sent a frame of 4294967295 bytes");
}

static void length_one_too_long(void **state)
{
	struct test *t = *state;

	peer_writes(t, "\0\1\0\0", 4);
	is_lost(t, "the peer sent a frame of 65536 bytes");
}

static void end_between_frames(void **state)
{
	struct test *t = *state;

	peer_writes(t, wire, put_frame(wire, 1, 60));
	shutdown(t->peer, SHUT_RDWR);
	got_frame(1, receive(t, 2000), 60);
	is_lost(t, "the peer closed the connection");
}

static void end_within_a_frame(void **state)
{
	struct test *t = *state;

	peer_writes(t, wire, put_frame(wire, 1, 60) - 1);
	assert_int_equal(receive(t, 2000), -EAGAIN);
	shutdown(t->peer, SHUT_RDWR);
	is_lost(t, "the peer closed the connection");
}

/* The peer goes with unread frames: a reset, where the others were an end. */
static void end_while_sending(void **state)
{
	struct test *t = *state;
	struct iovec iov = { packet, HDR + 60000 };
	ssize_t r;

	memset(packet, 0, sizeof(packet));
	while ((r = t->net->ops->send(t->net, 0, &iov, 1)) > 0)
		;
	assert_int_equal(r, -EAGAIN);
	close(t->peer);
	t->peer = -1;
	assert_int_equal(t->net->ops->flush(t->net), -ENODEV);
	is_lost(t, "the peer closed the connection");
}

/* Who does not receive can ask, whatever lies unread before the end. */
static void end_unread(void **state)
{
	struct test *t = *state;

	assert_false(t->net->ops->gone(t->net));
	peer_writes(t, wire, put_frame(wire, 1, 100));
	assert_false(t->net->ops->gone(t->net));
	close(t->peer);
	t->peer = -1;
	assert_true(t->net->ops->gone(t->net));
	assert_true(t->net->ops->gone(t->net));
	is_lost(t, "the peer closed the connection");
}

static void bad_length_unread(void **state)
{
	struct test *t = *state;

	peer_writes(t, wire, put_frame(wire, 1, 100));
	peer_writes(t, "\0\0\0", 4);
	assert_int_equal(receive(t, HDR + 100), HDR + 100);
	assert_true(t->net->ops->gone(t->net));
	is_lost(t, "the peer sent a frame of 0 bytes");
}

static ssize_t send_frame(struct test *t, unsigned int seed, size_t len)
{
	struct iovec iov[64];

	memset(packet, 0, HDR);
	for (size_t i = 0; i < len; i++)
		packet[HDR + i] = pattern(seed, i);
	return t->net->ops->send(t->net, 0, iov, cut(iov, HDR + len));
}

/* Read at most `max` bytes of what was sent; whole frames are checked off. */
struct reader {
	size_t bytes, total;
	unsigned int seed;
};

static bool peer_reads(struct test *t, struct reader *reader, size_t max)
{
	ssize_t n = recv(t->peer, wire + reader->bytes, MIN(max, sizeof(wire) - reader->bytes),
			 MSG_DONTWAIT);
	size_t len;

	if (n <= 0)
		return false;
	reader->bytes += (size_t)n;
	reader->total += (size_t)n;
	while (reader->bytes >= PREFIX) {
		assert_int_equal(wire[0] | wire[1], 0);
		len = (size_t)wire[2] << 8 | wire[3];
		if (reader->bytes < PREFIX + len)
			break;
		for (size_t i = 0; i < len; i++)
			if (wire[PREFIX + i] != pattern(reader->seed, i))
				fail_msg("byte %zu of frame %u differs", i, reader->seed);
		reader->seed++;
		reader->bytes -= PREFIX + len;
		memmove(wire, wire + PREFIX + len, reader->bytes);
	}
	return true;
}

static void sends_of_any_size(void **state)
{
	static const size_t lens[] = { 1, 14, 60, 1514, 3641, 36409, FRAME_MAX - 1, FRAME_MAX };
	struct test *t = *state;
	struct reader reader = { 0 };

	for (unsigned int i = 0; i < ARRAY_LEN(lens); i++) {
		assert_int_equal(send_frame(t, i, lens[i]), HDR + lens[i]);
		while (t->net->ops->flush(t->net) == -EAGAIN ||
		       peer_reads(t, &reader, sizeof(wire)))
			;
		assert_int_equal(reader.seed, i + 1);
		assert_int_equal(reader.bytes, 0);
	}
}

/*
 * A socket of next to no room, and a slow peer: what was taken arrives whole and in order, and
 * the last one by flush alone.
 */
static void full_socket(void **state)
{
	struct test *t = *state;
	struct reader reader = { 0 };
	unsigned int taken = 0, again = 0, in_part = 0;
	int small = 4096, waiting;
	size_t total = 0;

	assert_int_equal(setsockopt(t->net->fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	while (taken < 2000) {
		size_t len = 1 + (size_t)rand() % (rand() % 4 ? 3000 : FRAME_MAX);
		ssize_t r = send_frame(t, taken, len);

		if (r == -EAGAIN) {
			again++;
		} else {
			assert_int_equal(r, HDR + len);
			taken++;
			total += PREFIX + len;
			in_part += t->net->ops->flush(t->net) == -EAGAIN;
		}
		if (rand() % 2)
			peer_reads(t, &reader, 1 + (size_t)rand() % 5000);
		if (t->net->ops->flush(t->net) == 0) { /* then it is all with the peer */
			assert_int_equal(ioctl(t->peer, FIONREAD, &waiting), 0);
			assert_int_equal(reader.total + (size_t)waiting, total);
		}
	}
	assert_true(again > 100 && in_part > 100);
	while (peer_reads(t, &reader, 700))
		t->net->ops->flush(t->net);
	assert_int_equal(reader.seed, taken);
	assert_int_equal(reader.bytes, 0);
	assert_int_equal(t->net->ops->flush(t->net), 0);
}

static void refuses_what_the_header_asks(void **state)
{
	struct test *t = *state;
	struct virtio_net_hdr_v1 *hdr = (void *)packet;
	struct iovec iov = { packet, HDR + 60 };

	memset(packet, 0, sizeof(packet));
	hdr->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
	assert_int_equal(t->net->ops->send(t->net, 0, &iov, 1), -EINVAL);
	*hdr = (struct virtio_net_hdr_v1){ .gso_type = VIRTIO_NET_HDR_GSO_TCPV4 };
	assert_int_equal(t->net->ops->send(t->net, 0, &iov, 1), -EINVAL);
	*hdr = (struct virtio_net_hdr_v1){ 0 };
	iov.iov_len = HDR;
	assert_int_equal(t->net->ops->send(t->net, 0, &iov, 1), -EINVAL);
	iov.iov_len = HDR + FRAME_MAX + 1;
	assert_int_equal(t->net->ops->send(t->net, 0, &iov, 1), -EINVAL);
	assert_int_equal(recv(t->peer, wire, 1, MSG_DONTWAIT), -1);
	assert_int_equal(t->net->offloads, 0);
	assert_int_equal(t->net->ops->set_offload(t->net, 0), 0);
	assert_int_equal(t->net->ops->set_offload(t->net, NET_OFFLOAD_CSUM), -EOPNOTSUPP);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(byte_by_byte),
		TEST(merged_frames),
		TEST(any_frames_in_any_pieces),
		TEST(cuts_what_does_not_fit),
		TEST(as_many_entries_as_there_can_be),
		TEST(length_of_zero),
		TEST(huge_length),
		TEST(length_one_too_long),
		TEST(end_between_frames),
		TEST(end_within_a_frame),
		TEST(end_while_sending),
		TEST(end_unread),
		TEST(bad_length_unread),
		TEST(sends_of_any_size),
		TEST(full_socket),
		TEST(refuses_what_the_header_asks),
	};

	return cmocka_run_group_tests_name("net_stream", tests, NULL, NULL);
}

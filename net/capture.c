/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A packet socket at the interface has the kernel put copies of its frames into a ring of blocks
 * that we share (TPACKET_V3, Documentation/networking/packet_mmap.rst). A block is ours when it
 * is full, or some milliseconds after its first frame; it becomes pcapng blocks in `buf`, goes
 * back to the kernel at once, and `buf` is written to the file.
 *
 * Nobody waits for us: when a slow disk has let the ring fill up the kernel drops the copies that
 * find no room, and counts them; the count goes into the file, where it rose and at the end.
 *
 * A file that takes no more (the disk is full, the reader of a FIFO is gone) ends the capture, and
 * nothing else. What was written is then cut back to the last whole block.
 */
#include "net/capture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "net/pcapng.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/util.h"

#define RING_BLOCK_BYTES KIB(256)
#define RING_BLOCKS 32u
#define RING_BYTES (RING_BLOCK_BYTES * RING_BLOCKS)
#define FRAME_BYTES 2048u /* for the kernel's arithmetic; blocks are filled without gaps */
#define RETIRE_MS 50
#define TURN_BLOCKS 8u /* then a stop is heard */
#define LAST_S 2u /* for what is left at the end */
#define NS_PER_S 1000000000ull

/* A frame takes more besides its data in the ring than in the file. */
_Static_assert(PCAPNG_FRAME_EXTRA_MAX < TPACKET3_HDRLEN, "a block's frames fit into buf");

struct capture {
	char *path;
	int file, socket; /* or -1 */
	bool regular;
	off_t whole; /* the file's size, up to whole blocks */
	uint8_t *ring;
	unsigned int next; /* block of the ring */
	struct pcapng_counts counts;
	struct loop *loop;
	struct loop_watch *frames_watch, *room_watch;
	size_t len, written; /* of buf */
	uint8_t buf[RING_BLOCK_BYTES + PCAPNG_COUNTS_BYTES];
};

/* --- the file --- */

static int bad_file(const struct capture *c, const char *what, const char *remedy)
{
	log_error("pcap %s: %s (%s)", c->path, what, remedy);
	return -EINVAL;
}

/* 0 or -errno; logs. */
static int check_file(struct capture *c, const struct stat *st)
{
	uint32_t magic;
	ssize_t len;

	c->regular = S_ISREG(st->st_mode);
	if (!c->regular)
		return 0;
	if (flock(c->file, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
		return bad_file(c, "another capture is being written to it", "name another file");
	len = pread(c->file, &magic, sizeof(magic), 0);
	if (len && (len != sizeof(magic) || magic != PCAPNG_MAGIC))
		return bad_file(c, "there is something in it, and no capture",
				"remove it, or name another file");
	return 0;
}

/* A FIFO opened for both is there at once, and so is its reader when it comes. */
static int open_file(struct capture *c)
{
	struct stat st;
	int r;

	if (stat(c->path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
		return bad_file(c, "neither a regular file nor a FIFO", "name another file");
	c->file = open(c->path, O_RDWR | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
	if (c->file < 0 || fstat(c->file, &st) < 0) {
		r = -errno;
		log_error("pcap %s: %s%s", c->path, strerror(-r), fd_remedy(-r));
		return r;
	}
	return check_file(c, &st);
}

/* --- the ring --- */

static int make_ring(struct capture *c, int index)
{
	const struct sockaddr_ll addr = {
		.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = index,
	};
	const struct tpacket_req3 req = {
		.tp_block_size = RING_BLOCK_BYTES, .tp_block_nr = RING_BLOCKS,
		.tp_frame_size = FRAME_BYTES, .tp_frame_nr = RING_BYTES / FRAME_BYTES,
		.tp_retire_blk_tov = RETIRE_MS,
	};
	int version = TPACKET_V3;
	void *ring;

	if (setsockopt(c->socket, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) < 0 ||
	    setsockopt(c->socket, SOL_PACKET, PACKET_RX_RING, &req, sizeof(req)) < 0)
		return -errno;
	ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, c->socket, 0);
	if (ring == MAP_FAILED)
		return -errno;
	c->ring = ring;
	/* Not before all is set: so there is no frame of another interface. */
	return bind(c->socket, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
}

static int open_ring(struct capture *c, int index, const char *ifname)
{
	int r;

	c->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = c->socket < 0 ? -errno : make_ring(c, index);
	if (r == -EPERM)
		log_error("pcap %s: no right to capture: CAP_NET_RAW is missing (run as root, or "
			  "leave pcap= out)", c->path);
	else if (r)
		log_error("pcap %s: cannot capture at %s: %s%s", c->path, ifname, strerror(-r),
			  fd_remedy(-r));
	return r;
}

static void close_ring(struct capture *c)
{
	if (c->ring)
		munmap(c->ring, RING_BYTES);
	if (c->socket >= 0)
		close(c->socket);
	c->ring = NULL;
	c->socket = -1;
}

/* --- frames --- */

static void put_frame(struct capture *c, const struct tpacket3_hdr *hdr)
{
	const uint8_t *start = (const uint8_t *)hdr;
	const struct sockaddr_ll *from =
		(const void *)(start + TPACKET_ALIGN(sizeof(struct tpacket3_hdr)));
	const struct pcapng_frame frame = {
		.data = start + hdr->tp_mac,
		.len = hdr->tp_snaplen,
		.wire_len = hdr->tp_len,
		.time_ns = hdr->tp_sec * NS_PER_S + hdr->tp_nsec,
		.outbound = from->sll_pkttype == PACKET_OUTGOING,
		.tagged = hdr->tp_status & TP_STATUS_VLAN_VALID && hdr->tp_snaplen >= ETH_HLEN,
		.tpid = hdr->tp_status & TP_STATUS_VLAN_TPID_VALID ? hdr->hv1.tp_vlan_tpid :
								     ETH_P_8021Q,
		.tci = (uint16_t)hdr->hv1.tp_vlan_tci,
	};

	c->len += pcapng_put_frame(c->buf + c->len, &frame);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static void put_counts(struct capture *c)
{
	c->len += pcapng_put_counts(c->buf + c->len, &c->counts, now_ns(CLOCK_REALTIME));
}

/* The kernel's counters start again each time they are read. */
static bool count(struct capture *c)
{
	struct tpacket_stats_v3 stats;
	socklen_t len = sizeof(stats);

	if (getsockopt(c->socket, SOL_PACKET, PACKET_STATISTICS, &stats, &len) < 0)
		return false;
	c->counts.received += stats.tp_packets;
	if (stats.tp_drops && !c->counts.dropped)
		log_warn("pcap %s: too slow for all frames, some are missing (it says how many)",
			 c->path);
	c->counts.dropped += stats.tp_drops;
	return stats.tp_drops;
}

/* From the ring to `buf`, which is empty. False: there is none yet. */
static bool take_block(struct capture *c)
{
	struct tpacket_block_desc *block = (void *)(c->ring + c->next * RING_BLOCK_BYTES);
	struct tpacket_hdr_v1 *head = &block->hdr.bh1;
	const uint8_t *at = (const uint8_t *)block + head->offset_to_first_pkt;

	/* Pairs with the kernel's barrier before it hands a block over. */
	if (!(__atomic_load_n(&head->block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
		return false;
	for (uint32_t i = 0; i < head->num_pkts; i++) {
		const struct tpacket3_hdr *hdr = (const void *)at;

		put_frame(c, hdr);
		at += hdr->tp_next_offset;
	}
	__atomic_store_n(&head->block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	c->next = (c->next + 1) % RING_BLOCKS;
	if (count(c))
		put_counts(c);
	return true;
}

/* --- writing --- */

static void give_up(struct capture *c, int r)
{
	log_warn("pcap %s: %s: the capture ends here, the machine goes on", c->path, strerror(-r));
	if (c->regular && ftruncate(c->file, c->whole) < 0)
		log_warn("pcap %s: its last frame is cut off", c->path);
	loop_unwatch(c->loop, c->frames_watch);
	loop_unwatch(c->loop, c->room_watch);
	c->frames_watch = c->room_watch = NULL;
	close_ring(c);
}

/* All of `buf`. 0, -EAGAIN, or -errno. */
static int flush(struct capture *c)
{
	while (c->written < c->len) {
		ssize_t n = write(c->file, c->buf + c->written, c->len - c->written);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		c->written += (size_t)n;
	}
	c->whole += (off_t)c->len;
	c->len = c->written = 0;
	return 0;
}

static void turn(struct capture *c)
{
	int r = flush(c);

	for (unsigned int i = 0; !r && i < TURN_BLOCKS && take_block(c); i++)
		r = flush(c);
	if (r == -EAGAIN) {
		loop_watch_pause(c->loop, c->frames_watch);
		loop_watch_resume(c->loop, c->room_watch);
	} else if (r) {
		give_up(c, r);
	}
}

static void frames(void *arg)
{
	struct capture *c = arg;
	socklen_t len = sizeof(int);
	int error;

	/* The interface went down, or away: asking takes it off, or the watch would fire on. */
	getsockopt(c->socket, SOL_SOCKET, SO_ERROR, &error, &len);
	turn(c);
}

static void room(void *arg)
{
	struct capture *c = arg;

	loop_watch_pause(c->loop, c->room_watch);
	loop_watch_resume(c->loop, c->frames_watch);
	turn(c);
}

static int start(struct capture *c)
{
	int r = loop_create("pcap", &c->loop);

	if (r)
		return r;
	c->frames_watch = loop_watch_ready(c->loop, c->socket, POLLIN, frames, c);
	if (!c->regular)
		c->room_watch = loop_watch_ready(c->loop, c->file, POLLOUT, room, c);
	if (!c->frames_watch || (!c->regular && !c->room_watch))
		r = -ENOMEM;
	if (c->room_watch)
		loop_watch_pause(c->loop, c->room_watch);
	if (!r)
		r = loop_start(c->loop);
	if (r)
		log_error("pcap %s: %s", c->path, strerror(-r));
	return r;
}

static int create(const char *path, struct capture **out)
{
	struct capture *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->file = c->socket = -1;
	c->path = strdup(path);
	if (!c->path) {
		free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

static void destroy(struct capture *c)
{
	if (c->loop) {
		loop_unwatch(c->loop, c->frames_watch);
		loop_unwatch(c->loop, c->room_watch);
	}
	loop_destroy(c->loop);
	close_ring(c);
	if (c->file >= 0)
		close(c->file);
	free(c->path);
	free(c);
}

/* Nothing of the file is touched before all else is known to work. */
static int begin(struct capture *c, const char *ifname)
{
	int r = 0;

	c->len = pcapng_put_header(c->buf, ifname);
	if (c->regular && ftruncate(c->file, 0) < 0)
		r = -errno;
	if (!r)
		r = flush(c);
	if (r && r != -EAGAIN) {
		log_error("pcap %s: %s", c->path, strerror(-r));
		return r;
	}
	return start(c);
}

int capture_open(const char *path, int index, const char *ifname, struct capture **out)
{
	struct capture *c;
	int r = create(path, &c);

	if (r)
		return r;
	r = open_file(c);
	if (!r)
		r = open_ring(c, index, ifname);
	if (!r)
		r = begin(c, ifname);
	if (r)
		destroy(c);
	else
		*out = c;
	return r;
}

/* A FIFO's reader is given some time, and no more. */
static int flush_until(struct capture *c, uint64_t end_ns)
{
	struct pollfd pfd = { .fd = c->file, .events = POLLOUT };
	int r;

	while ((r = flush(c)) == -EAGAIN && now_ns(CLOCK_MONOTONIC) < end_ns)
		poll(&pfd, 1, RETIRE_MS);
	return r;
}

/* What came last is in a block that becomes ours by the clock. */
static void write_rest(struct capture *c)
{
	uint64_t end_ns = now_ns(CLOCK_MONOTONIC) + LAST_S * NS_PER_S;
	struct pollfd pfd = { .fd = c->socket, .events = POLLIN };
	int r;

	poll(&pfd, 1, 2 * RETIRE_MS);
	r = flush_until(c, end_ns);
	for (unsigned int i = 0; !r && i < RING_BLOCKS && take_block(c); i++)
		r = flush_until(c, end_ns);
	if (!r) {
		count(c);
		put_counts(c);
		r = flush_until(c, end_ns);
	}
	if (r && r != -EAGAIN) /* a FIFO nobody reads has been full for long */
		give_up(c, r);
}

void capture_close(struct capture *c)
{
	if (!c)
		return;
	loop_stop(c->loop);
	if (c->socket >= 0)
		write_rest(c);
	destroy(c);
}

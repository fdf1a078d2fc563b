/* SPDX-License-Identifier: MIT */
/*
 * virtio-blk against a hostile driver: requests of any kind cut anyhow on one queue or several,
 * bytes over rings and headers while requests are in flight, resets at any time, a disk that
 * fails, answers in any order, and may do only so much per second. The fake disk aborts where a
 * request breaks what block.h promises.
 */
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <stdlib.h>

#include "../unit/fake_blk.h"
#include "../unit/fake_loop.h"
#include "../unit/ring.h"
#include "script.h"
#include "util/log.h"
#include "virtio/blk.h"
#include "virtio/blk_limit.h"
#include "virtio/device.h"

#define RAM KIB(80)
#define DISK KIB(64)
#define SECTORS (DISK / 512)
#define SIZE 16
#define QUEUES_MAX 3
#define TABLES 0x10000 /* KIB(1) for each slot */
#define HEADERS 0x4000
#define DATA 0x5000
#define BUFS_MAX 8
#define LONG_MAX 60

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct target {
	struct loop loop;
	struct mem mem;
	struct ring rings[QUEUES_MAX];
	unsigned int queues;
	struct ring *ring; /* the one that this step is about */
	unsigned int queue;
	struct blk blk;
	struct virtio_dev *dev;
};

static void demand(bool condition)
{
	if (!condition)
		abort();
}

static void ignore_queue(void *owner, unsigned int queue)
{
}

static void ignore(void *owner)
{
}

static void start(struct target *t, uint8_t refused)
{
	/* FLUSH, CONFIG_WCE, DISCARD, WRITE_ZEROES, INDIRECT, EVENT_IDX, MQ */
	static const uint8_t bits[] = {9, 11, 13, 14, 28, 29, 12};
	uint64_t features = t->dev->offered;

	for (unsigned int i = 0; i < ARRAY_LEN(bits); i++)
		if (refused >> i & 1)
			features &= ~(1ull << bits[i]);
	virtio_set_status(t->dev, VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	virtio_set_driver_features(t->dev, 0, (uint32_t)features);
	virtio_set_driver_features(t->dev, 1, (uint32_t)(features >> 32));
	virtio_set_status(t->dev, VIRTIO_CONFIG_S_FEATURES_OK);
	for (unsigned int i = 0; i < t->queues; i++) {
		ring_init(&t->rings[i], &t->mem, SIZE, 0x100 + 0x400 * i);
		t->dev->queues[i].config = ring_config(&t->rings[i]);
		t->dev->queues[i].enabled = true;
	}
	virtio_set_status(t->dev, VIRTIO_CONFIG_S_DRIVER_OK);
	fake_loop_turn(&t->loop);
}

static void reset(struct target *t)
{
	virtio_set_status(t->dev, 0);
	fake_loop_turn(&t->loop);
	fake_blk_complete_all(&t->blk);
	fake_loop_turn(&t->loop);
	demand(virtio_get_status(t->dev) == 0);
	demand(t->blk.pending_count == 0 && !t->loop.deferred && !t->loop.posted);
}

static uint64_t read_sector(struct script *script)
{
	uint8_t value = script_u8(script);

	return value < 200 ? value : UINT64_MAX - value;
}

/* One request: its kind, its place, and how its bytes are cut into buffers. */
static void add_request(struct target *t, struct script *script)
{
	static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 0, 1};
	struct virtio_blk_outhdr header;
	struct ring_buf bufs[BUFS_MAX];
	uint8_t shape = script_u8(script), slot = script_u8(script) % SIZE;
	unsigned int out_count = shape % 5, in_count = shape / 5 % 4;
	uint64_t gpa = HEADERS + 64 * (uint64_t)slot;

	header = (struct virtio_blk_outhdr){.type = types[script_u8(script) % ARRAY_LEN(types)]};
	header.sector = read_sector(script);
	mem_write(&t->mem, gpa, &header, sizeof(header));
	if (out_count + in_count == 0 || t->ring->free_count < out_count + in_count)
		return;
	for (unsigned int i = 0; i < out_count + in_count; i++) {
		uint16_t len = script_u16(script);

		/* Round lengths are the ones that pass. */
		bufs[i].len = len & 0x8000 ? len % 2048 : (len % 5) * 512 + (len & 0x400 ? 16 : 0);
		bufs[i].gpa = i == 0 && out_count ? gpa : DATA + len % KIB(32);
		if (i == 0 && out_count && !(shape & 0x80))
			bufs[i].len = 16;
		if (i + 1 == out_count + in_count && !(shape & 0x40))
			bufs[i].len = 1;
	}
	if (script_u8(script) & 1)
		ring_add_indirect(t->ring, TABLES + KIB(1) * slot, bufs, out_count,
				  in_count);
	else
		ring_add(t->ring, bufs, out_count, in_count);
}

/* A read or write of more buffers than a slot has room for. */
static void add_long_request(struct target *t, struct script *script)
{
	uint8_t slot = script_u8(script) % SIZE, count = script_u8(script) % LONG_MAX;
	struct virtio_blk_outhdr header = {.type = count % 2};
	struct ring_buf bufs[LONG_MAX + 2];

	header.sector = read_sector(script);
	if (!t->ring->free_count)
		return;
	bufs[0] = (struct ring_buf){HEADERS + 64 * (uint64_t)slot, 16};
	mem_write(&t->mem, bufs[0].gpa, &header, sizeof(header));
	for (unsigned int i = 1; i <= count; i++)
		bufs[i] = (struct ring_buf){DATA + script_u8(script) * 64, 512};
	bufs[count + 1] = (struct ring_buf){DATA, 1};
	ring_add_indirect(t->ring, TABLES + KIB(1) * slot, bufs, header.type ? count + 1 : 1,
			  header.type ? 1 : count + 1);
}

/* Ranges of a discard, where requests of that kind may find them. */
static void put_range(struct target *t, struct script *script)
{
	struct virtio_blk_discard_write_zeroes range;

	range.sector = read_sector(script);
	range.num_sectors = script_u8(script);
	range.flags = script_u8(script) % 4;
	mem_write(&t->mem, DATA + script_u16(script) % KIB(32), &range, sizeof(range));
}

static void write_raw(struct target *t, struct script *script)
{
	uint64_t gpa = script_u16(script) * 5 / 4; /* of all RAM */
	uint8_t bytes[8];

	script_bytes(script, bytes, sizeof(bytes));
	mem_write(&t->mem, gpa, bytes, sizeof(bytes));
}

static void config_access(struct target *t, struct script *script)
{
	uint8_t offset = script_u8(script), bytes[16];
	unsigned int len = script_u8(script) % (sizeof(bytes) + 1);

	virtio_config_read(t->dev, offset, bytes, len);
	script_bytes(script, bytes, sizeof(bytes));
	virtio_config_write(t->dev, offset, bytes, len);
}

static void step(struct target *t, struct script *script)
{
	static const int errors[] = {0, -EIO, -ENOTSUP};
	struct ring_elem elem;
	uint8_t op = script_u8(script);

	t->queue = op / 13 % t->queues;
	t->ring = &t->rings[t->queue];
	switch (op % 13) {
	case 0:
		put_range(t, script);
		break;
	case 1:
		write_raw(t, script);
		break;
	case 2:
		config_access(t, script);
		break;
	case 3:
		ring_offer(t->ring, script_u8(script) % (SIZE + 1));
		break;
	case 4:
		virtio_kick(t->dev, t->queue);
		fake_loop_turn(&t->loop);
		fake_loop_advance(&t->loop, 1);
		break;
	case 5:
		if (t->blk.pending_count)
			fake_blk_complete(&t->blk, script_u8(script) % t->blk.pending_count);
		break;
	case 6:
		fake_blk_complete_all(&t->blk);
		fake_loop_turn(&t->loop);
		fake_loop_advance(&t->loop, 30);
		break;
	case 7: /* not a device that answers twice, but the ring may say so */
		while (t->ring->free_count < SIZE && ring_used(t->ring, &elem))
			;
		break;
	case 8:
		t->blk.error = errors[script_u8(script) % ARRAY_LEN(errors)];
		t->blk.error_op = script_u8(script) % 5;
		break;
	case 9:
		reset(t);
		start(t, script_u8(script));
		break;
	case 10: /* a reset that nobody waits for, and a start that comes too early */
		virtio_set_status(t->dev, 0);
		start(t, script_u8(script));
		break;
	case 11:
		add_long_request(t, script);
		break;
	default:
		add_request(t, script);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct script script = {data, len};
	struct target *t = calloc(1, sizeof(*t));
	uint8_t flags = script_u8(&script);
	struct virtio_blk_options options = {.serial = "fuzz", .queues = flags & 0x80 ? 3 : 1};

	bool limited = options.queues > 1 && script_u8(&script) & 1;

	demand(t != NULL);
	log_set_level(LOG_LEVEL_ERROR);
	fake_loop_init(&t->loop);
	guest_init(&t->mem, RAM, 0);
	fake_blk_init(&t->blk, &t->mem, DISK);
	t->blk.info.readonly = flags & 1;
	if (limited)
		demand(blk_limit_create(&t->loop, 50, KIB(64), &options.limit) == 0);
	demand(virtio_blk_create("blk0", &t->loop, &t->mem, &t->blk, &options, &t->dev) == 0);
	t->queues = options.queues;
	t->dev->transport = (struct virtio_transport){
		.queue_irq = ignore_queue, .config_irq = ignore, .owner = t};
	start(t, flags >> 1 & 0x3f);
	while (script.left)
		step(t, &script);
	reset(t);
	virtio_dev_destroy(t->dev);
	blk_limit_destroy(options.limit);
	fake_blk_finish(&t->blk);
	guest_finish(&t->mem);
	free(t);
	return 0;
}

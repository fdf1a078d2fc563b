/* SPDX-License-Identifier: MIT */
/*
 * A virtqueue against a driver that writes anything anywhere: descriptors, heads, indices, and
 * bytes over all of it, between a device's pops, pushes and publishes. What is popped must lie
 * in RAM, add up, be in flight once, and end within a batch.
 */
#include <errno.h>
#include <stdlib.h>

#include "../unit/ring.h"
#include "script.h"

#define RAM KIB(16)
#define HIGH KIB(4)
#define TABLE 0x2000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct target {
	struct mem mem;
	struct ring ring;
	struct virtqueue *vq;
	bool in_flight[VQ_SIZE_MAX];
	bool can_unpop;
	uint16_t last;
	uint8_t sum;
	unsigned int popped; /* since the last publish */
};

static void demand(bool condition)
{
	if (!condition)
		abort();
}

static uint64_t read_gpa(struct script *script)
{
	uint16_t value = script_u16(script);

	/* Mostly RAM; its ends, the hole and what wraps, too. */
	if (value < 0xf000)
		return value % (RAM + 16);
	if (value < 0xf800)
		return RING_HIGH_GPA - 8 + value % (HIGH + 16);
	return UINT64_MAX - (value & 0xff);
}

static uint32_t read_len(struct script *script)
{
	uint16_t value = script_u16(script);

	return value < 0xfff0 ? value % 600 : UINT32_MAX - (0xffff - value);
}

/* The device reads and writes what it got, the ring itself included. */
static void use_iov(struct target *t, const struct vq_chain *chain)
{
	uint64_t out_bytes = 0, in_bytes = 0;

	demand(chain->out_count + chain->in_count <= VQ_IOV_MAX);
	demand(chain->out_count + chain->in_count > 0);
	for (unsigned int i = 0; i < chain->out_count + chain->in_count; i++) {
		uint8_t *base = chain->iov[i].iov_base;
		size_t bytes = chain->iov[i].iov_len;

		demand(bytes > 0);
		if (i < chain->out_count) {
			out_bytes += bytes;
			t->sum += base[0] + base[bytes - 1];
		} else {
			in_bytes += bytes;
			base[0] ^= 0x40;
			base[bytes - 1] ^= 1;
		}
	}
	demand(out_bytes == chain->out_bytes && in_bytes == chain->in_bytes);
}

static void pop(struct target *t)
{
	struct vq_chain chain;
	int r = vq_pop(t->vq, &chain);

	demand(r == 0 || r == 1 || r == -EPROTO);
	demand((r < 0) == (vq_error(t->vq) != NULL));
	if (r != 1)
		return;
	demand(chain.head < t->ring.size && !t->in_flight[chain.head]);
	demand(++t->popped <= t->ring.size);
	t->in_flight[chain.head] = true;
	t->last = chain.head;
	t->can_unpop = true;
	use_iov(t, &chain);
}

static void unpop(struct target *t)
{
	if (!t->can_unpop)
		return;
	vq_unpop(t->vq);
	t->in_flight[t->last] = false;
	t->can_unpop = false;
	t->popped--;
}

/* The next head in flight from `start` on. */
static void push(struct target *t, uint16_t start)
{
	for (uint16_t i = 0; i < t->ring.size; i++) {
		uint16_t head = (start + i) % t->ring.size;

		if (!t->in_flight[head])
			continue;
		vq_push(t->vq, head, start);
		t->in_flight[head] = false;
		t->can_unpop = false;
		return;
	}
}

static void publish(struct target *t)
{
	vq_publish(t->vq);
	t->popped = 0;
	t->can_unpop = false;
	for (uint16_t i = 0; i < t->ring.size; i++)
		t->popped += t->in_flight[i];
}

static void write_desc(struct target *t, struct script *script, _Atomic uint64_t *table,
		       unsigned int count)
{
	unsigned int index = script_u8(script) % count;
	uint64_t gpa = read_gpa(script);
	uint32_t len = read_len(script);
	uint8_t flags = script_u8(script);

	ring_table_desc(table, index, gpa, len, flags & 7, (flags >> 3) % (count + 1));
}

static void write_raw(struct target *t, struct script *script)
{
	uint64_t gpa = read_gpa(script);
	uint8_t bytes[16];

	script_bytes(script, bytes, sizeof(bytes));
	mem_write(&t->mem, gpa, bytes, sizeof(bytes));
}

static void step(struct target *t, struct script *script)
{
	unsigned int index;

	switch (script_u8(script) % 12) {
	case 0:
		write_desc(t, script, t->ring.desc, t->ring.size);
		break;
	case 1:
		write_desc(t, script, mem_at(&t->mem, TABLE, 16 * 32), 32);
		break;
	case 2: /* an indirect descriptor that may well work */
		index = script_u8(script) % t->ring.size;
		ring_desc(&t->ring, index, TABLE, 16u * script_u8(script),
			  VRING_DESC_F_INDIRECT, 0);
		break;
	case 3:
		ring_offer(&t->ring, script_u8(script));
		break;
	case 4:
		ring_set_avail(&t->ring, t->ring.avail_next + script_u8(script) - 128);
		break;
	case 5:
		write_raw(t, script);
		break;
	case 6:
		unpop(t);
		break;
	case 7:
		push(t, script_u8(script));
		break;
	case 8:
		publish(t);
		break;
	case 9:
		vq_disarm(t->vq);
		break;
	case 10:
		vq_arm(t->vq);
		break;
	default:
		pop(t);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct script script = {data, len};
	struct target *t = calloc(1, sizeof(*t));
	struct vq_config config;
	uint8_t flags;

	demand(t != NULL);
	guest_init(&t->mem, RAM, HIGH);
	flags = script_u8(&script);
	ring_init(&t->ring, &t->mem, (uint16_t)(1u << (flags >> 4) % 7), 0x100);
	t->ring.event_idx = flags & 1;
	t->ring.indirect = flags & 2;
	config = ring_config(&t->ring);
	if (flags & 4) /* one of these may not do */
		config.used_gpa = read_gpa(&script);
	if (flags & 8)
		config.desc_gpa = read_gpa(&script);
	if (vq_create(&t->mem, &config, &t->vq) == 0) {
		while (script.left)
			step(t, &script);
		vq_destroy(t->vq);
	}
	guest_finish(&t->mem);
	free(t);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What no driver should give a network card: to be received into, to be sent, and as commands.
 * Each is answered or breaks the device (NEEDS_RESET); then the device is reset, sends and
 * receives a frame and takes a command as ever. Frames for everybody have to come all the time.
 * With cpus=N the other processors ring all doorbells meanwhile, without end. With "merge" vhost
 * may serve the card: then what comes of each is not checked, but that all goes on. With "stay" it
 * does only that of which is known how often it counts, sets a receive filter, says "stays" and
 * goes when it gets a line.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/net.h"
#include "guest/lib/smp.h"

#define HEADER_BYTES ((uint32_t)sizeof(struct virtio_net_hdr_v1))
#define FRAME_BYTES 60u
#define DATA_BYTES (1u << 20)
#define ACK_UNSET 0xAA
#define SHORT_WAIT_CYCLES 100000000ull
#define HEADERS 2000
#define HEADERS_LOOSE 100 /* some stop vhost's queue */

enum outcome {
	BROKEN,   /* DEVICE_NEEDS_RESET */
	ANSWERED, /* an entry in the used ring */
	NOTHING,  /* for a while */
};

static const char *const outcomes[] = {"broke the device", "was answered", "came to nothing"};

static struct vdev dev;
static struct vqueue rx, tx, ctrl;
static uint8_t *data, ack;
static struct vring_desc *table; /* an indirect one */
static struct virtio_net_hdr_v1 *header; /* before a frame, in `data` */
static uint16_t offered = 1;		 /* how far avail->idx moves */
static bool loose;

/* --- what comes back --- */

/* Waits for ever only for what has to come. */
static enum outcome offer_and_wait(struct vqueue *queue, uint16_t head, enum outcome wanted)
{
	uint64_t start = rdtsc();
	struct vring_used_elem used;

	queue->avail->ring[queue->avail->idx % queue->size] = head;
	/* At once: other processors ring the doorbells. */
	__atomic_store_n(&queue->avail->idx, queue->avail->idx + offered, __ATOMIC_RELEASE);
	vqueue_kick(queue);
	for (;;) {
		if (vqueue_poll(queue, &used)) {
			CHECK(loose || used.id == head);
			return ANSWERED;
		}
		if (vdev_status(&dev) & VIRTIO_CONFIG_S_NEEDS_RESET)
			return BROKEN;
		if ((loose || wanted == NOTHING) && rdtsc() - start > SHORT_WAIT_CYCLES)
			return NOTHING;
		CHECK(still_patient(start));
	}
}

static void a_frame(uint32_t len)
{
	memset(data, 0, HEADER_BYTES + len);
	memcpy(data + HEADER_BYTES, "\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x09\x88\xb6", 14);
}

static void begin(void)
{
	vdev_begin(&dev, net_features(1) | BIT(VIRTIO_NET_F_CTRL_VQ) |
				 BIT(VIRTIO_NET_F_CTRL_RX) | BIT(VIRTIO_NET_F_CTRL_MAC_ADDR) |
				 BIT(VIRTIO_NET_F_CTRL_VLAN) | BIT(VIRTIO_NET_F_CTRL_GUEST_OFFLOADS) |
				 BIT(VIRTIO_RING_F_INDIRECT_DESC));
	vqueue_init(&rx, &dev, 0, 0);
	vqueue_init(&tx, &dev, 1, 0);
	vqueue_init(&ctrl, &dev, 2, 0);
	vdev_go(&dev);
}

/* All three queues work. Then another life, whose rings are as new. */
static void recover(void)
{
	static const uint8_t promisc_on[] = {VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 1};

	begin();
	vqueue_chain(&rx, 0, &(struct vbuf){data + DATA_BYTES / 2, 2048}, 0, 1);
	vqueue_offer(&rx, 0);
	vqueue_kick(&rx);
	a_frame(FRAME_BYTES);
	vqueue_chain(&tx, 0, &(struct vbuf){data, HEADER_BYTES + FRAME_BYTES}, 1, 0);
	vqueue_offer(&tx, 0);
	vqueue_kick(&tx);
	vqueue_wait(&tx);
	CHECK_EQ(net_command(&ctrl, promisc_on, sizeof(promisc_on)), VIRTIO_NET_OK);
	CHECK(vqueue_wait(&rx).len >= HEADER_BYTES + FRAME_BYTES);
	begin();
}

static void expect(const char *name, struct vqueue *queue, uint16_t head, enum outcome wanted)
{
	enum outcome outcome;

	print("%s\n", name);
	outcome = offer_and_wait(queue, head, wanted);
	if (!loose && outcome != wanted)
		fail("%s: %s", name, outcomes[outcome]);
	recover();
}

/* --- the same for any queue --- */

static void usual_chain(struct vqueue *queue)
{
	struct vbuf bufs[] = {{data, 64}, {data + 64, 1024}};

	a_frame(FRAME_BYTES);
	if (queue == &ctrl)
		vqueue_chain(queue, 0, bufs, 1, 1);
	else
		vqueue_chain(queue, 0, bufs, queue == &tx ? 2 : 0, queue == &rx ? 2 : 0);
}

static void wrong_chains(struct vqueue *queue)
{
	static const uint64_t places[] = {0xC0000000, 0xFEE00000, 1ull << 40, ~0ull, ~0ull - 511};

	for (unsigned int i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		usual_chain(queue);
		queue->desc[1].addr = places[i];
		expect("data outside RAM", queue, 0, BROKEN);
	}
	usual_chain(queue);
	queue->desc[1].len = 0xFFFFFFFF;
	expect("data across the end of RAM", queue, 0, BROKEN);
	usual_chain(queue);
	queue->desc[1].len = 0;
	expect("data of length 0", queue, 0, BROKEN);
	usual_chain(queue);
	queue->desc[1].flags |= VRING_DESC_F_NEXT;
	queue->desc[1].next = 0;
	expect("a chain that loops", queue, 0, BROKEN);
	usual_chain(queue);
	queue->desc[0].next = queue->size;
	expect("a next descriptor outside the table", queue, 0, BROKEN);
	expect("a head outside the table", queue, queue->size, BROKEN);
	expect("the last head there could be", queue, 0xFFFF, BROKEN);
	usual_chain(queue);
	offered = queue->size + 1;
	expect("more available than there is room", queue, 0, BROKEN);
	offered = 1;
}

static void indirect(struct vqueue *queue, uint32_t len, uint16_t flags)
{
	usual_chain(queue);
	memcpy(table, queue->desc, 2 * sizeof(*table));
	queue->desc[0] = (struct vring_desc){
		.addr = (uint64_t)table,
		.len = len,
		.flags = VRING_DESC_F_INDIRECT | flags,
		.next = 1,
	};
}

static void wrong_indirect(struct vqueue *queue)
{
	const uint32_t good = 2 * sizeof(*table);

	indirect(queue, good, 0);
	expect("an indirect table", queue, 0, ANSWERED);
	indirect(queue, good - 1, 0);
	expect("an indirect table of odd length", queue, 0, BROKEN);
	indirect(queue, 0, 0);
	expect("an empty indirect table", queue, 0, BROKEN);
	indirect(queue, good, VRING_DESC_F_NEXT);
	expect("an indirect table, and on", queue, 0, BROKEN);
	indirect(queue, good, 0);
	table[1].flags |= VRING_DESC_F_NEXT;
	table[1].next = 0;
	expect("an indirect chain that loops", queue, 0, BROKEN);
	indirect(queue, good, 0);
	queue->desc[0].addr = 0xC0000000;
	expect("an indirect table outside RAM", queue, 0, BROKEN);
	indirect(queue, 0xFFFFFFF0, 0);
	expect("an endless indirect table", queue, 0, BROKEN);
}

/* --- to be received into --- */

static void receive_into(uint32_t len, bool readable)
{
	vqueue_chain(&rx, 0, &(struct vbuf){data, len}, readable, !readable);
}

static void wrong_receiving(void)
{
	receive_into(2048, true);
	expect("receive into readable memory", &rx, 0, ANSWERED);
	receive_into(1, false);
	expect("receive into a byte", &rx, 0, NOTHING);
	receive_into(HEADER_BYTES, false);
	expect("receive where only the header has room", &rx, 0, NOTHING);
	receive_into(DATA_BYTES, false);
	expect("receive into a mebibyte", &rx, 0, ANSWERED);
	print("receive into nothing\n");
	for (unsigned int i = 0; i < 50; i++)
		vqueue_kick(&rx);
	recover();
}

/* --- to be sent --- */

static void send_bytes(const char *name, uint32_t len)
{
	a_frame(FRAME_BYTES);
	vqueue_chain(&tx, 0, &(struct vbuf){data, len}, 1, 0);
	expect(name, &tx, 0, ANSWERED);
}

/* A buffer in every descriptor, all of them the same memory. */
static void send_all_descriptors(uint32_t len)
{
	a_frame(FRAME_BYTES);
	for (unsigned int i = 0; i < tx.size; i++)
		tx.desc[i] = (struct vring_desc){
			.addr = (uint64_t)data,
			.len = len,
			.flags = i + 1u < tx.size ? VRING_DESC_F_NEXT : 0,
			.next = (uint16_t)(i + 1),
		};
}

static void wrong_sending(void)
{
	send_bytes("send half a header", HEADER_BYTES / 2);
	send_bytes("send a header alone", HEADER_BYTES);
	send_bytes("send a frame of a byte", HEADER_BYTES + 1);
	send_bytes("send a frame of a mebibyte", DATA_BYTES);
	send_all_descriptors(1);
	expect("send by as many descriptors as there are", &tx, 0, ANSWERED);
	send_all_descriptors(DATA_BYTES);
	expect("send hundreds of mebibytes", &tx, 0, ANSWERED);
	vqueue_chain(&tx, 0, &(struct vbuf){data, 2048}, 0, 1);
	expect("send what only can be written", &tx, 0, ANSWERED);
}

static void wrong_headers(void)
{
	uint64_t seed = 0x9E3779B97F4A7C15ull;

	print("send with wrong headers\n");
	for (unsigned int i = 0; i < (loose ? HEADERS_LOOSE : HEADERS); i++) {
		a_frame(1500);
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		*header = (struct virtio_net_hdr_v1){
			.flags = (uint8_t)(seed >> 24),
			.gso_type = (uint8_t)(i % 3 ? seed >> 32 & 0x85 : seed >> 32),
			.hdr_len = (uint16_t)(i % 5 ? 54 : seed >> 40),
			.gso_size = (uint16_t)(i % 7 ? seed >> 50 : seed >> 48),
			.csum_start = (uint16_t)(i % 2 ? 34 : seed >> 17),
			.csum_offset = (uint16_t)(i % 4 ? 16 : seed >> 19),
			.num_buffers = (uint16_t)seed,
		};
		vqueue_chain(&tx, 0, &(struct vbuf){data, HEADER_BYTES + 1500}, 1, 0);
		if (offer_and_wait(&tx, 0, ANSWERED) == ANSWERED)
			continue;
		CHECK(loose);
		begin();
	}
	recover();
}

/* --- commands --- */

static void refused(const char *name, const void *bytes, uint32_t len)
{
	print("%s\n", name);
	if (net_command(&ctrl, bytes, len) != VIRTIO_NET_ERR)
		fail("%s: was taken", name);
}

#define REFUSED(name, ...) \
	refused(name, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void wrong_commands(void)
{
	REFUSED("half a command", VIRTIO_NET_CTRL_RX);
	REFUSED("an unknown class", 77, 0, 1);
	REFUSED("an unknown command", VIRTIO_NET_CTRL_RX, 77, 1);
	REFUSED("a mode without a value", VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC);
	REFUSED("an address of five bytes", VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 2, 0,
		0, 0, 0);
	REFUSED("an address of many", VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 1, 0, 0, 0,
		0, 1);
	REFUSED("the address of none", VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_ADDR_SET, 0, 0, 0,
		0, 0, 0);
	REFUSED("a table with more addresses than it has", VIRTIO_NET_CTRL_MAC,
		VIRTIO_NET_CTRL_MAC_TABLE_SET, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0);
	REFUSED("a table cut short", VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 0, 0, 0);
	REFUSED("no VLAN there could be", VIRTIO_NET_CTRL_VLAN, VIRTIO_NET_CTRL_VLAN_ADD, 0xff,
		0xff);
	REFUSED("no pairs", VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, 0, 0);
	REFUSED("more pairs than there are", VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET,
		0xff, 0xff);
	REFUSED("offloads there are not", VIRTIO_NET_CTRL_GUEST_OFFLOADS,
		VIRTIO_NET_CTRL_GUEST_OFFLOADS_SET, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
	recover();
}

static void wrong_command_chains(void)
{
	ack = ACK_UNSET;
	memset(data, 0xff, DATA_BYTES);
	vqueue_chain(&ctrl, 0, (struct vbuf[]){{data, DATA_BYTES}, {&ack, 1}}, 1, 1);
	expect("a command of a mebibyte", &ctrl, 0, ANSWERED);
	CHECK_EQ(*(volatile uint8_t *)&ack, VIRTIO_NET_ERR);
	vqueue_chain(&ctrl, 0, (struct vbuf[]){{data, 3}, {data, DATA_BYTES}}, 1, 1);
	expect("room for a mebibyte of answer", &ctrl, 0, ANSWERED);
	vqueue_chain(&ctrl, 0, &(struct vbuf){data, 3}, 1, 0);
	expect("no room for an answer", &ctrl, 0, ANSWERED);
	vqueue_chain(&ctrl, 0, &(struct vbuf){&ack, 1}, 0, 1);
	expect("no command", &ctrl, 0, ANSWERED);
}

static void stay(void)
{
	static const uint8_t commands[][16] = {
		{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, 0},
		{VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_ALLMULTI, 1},
		{VIRTIO_NET_CTRL_MAC, VIRTIO_NET_CTRL_MAC_TABLE_SET, 1, 0, 0, 0, 2, 0, 0, 0, 0, 7},
	};
	static const uint32_t lengths[] = {3, 3, 16};
	struct vring_used_elem used;
	char line[16];

	wrong_sending();
	wrong_commands();
	for (unsigned int i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		CHECK_EQ(net_command(&ctrl, commands[i], lengths[i]), VIRTIO_NET_OK);
	receive_into(2048, false);
	vqueue_offer(&rx, 0);
	vqueue_kick(&rx);
	outb(COM1 + 2, 0x01); /* FIFO on */
	print("stays\n");
	while (!(inb(COM1 + 5) & 1)) /* nothing to read yet */
		if (vqueue_poll(&rx, &used)) {
			vqueue_offer(&rx, 0);
			vqueue_kick(&rx);
		}
	serial_gets(line, sizeof(line));
}

/* Of queues that there are, and of some that there are not. */
static void ring_for_ever(void *arg)
{
	const struct vdev *rung = arg;

	for (uint16_t i = 0;; i++)
		write16(rung->notify + i % 5 * rung->notify_multiplier, i % 5);
}

static void start_ringing(unsigned int cpus)
{
	static struct vdev rung;

	smp_init(cpus);
	vdev_find(&rung, VIRTIO_NET, 0);
	for (unsigned int i = 1; i < cpus; i++)
		smp_start(i, ring_for_ever, &rung);
}

void guest_main(void)
{
	struct vqueue *const queues[] = {&rx, &tx, &ctrl};

	start_ringing((unsigned int)param("cpus", 1));
	become_user();
	loose = flag("merge");
	data = alloc(DATA_BYTES, 4096);
	header = (struct virtio_net_hdr_v1 *)data;
	table = alloc(4 * sizeof(*table), 16);
	vdev_find(&dev, VIRTIO_NET, 0);
	print("ready\n");
	recover();
	if (flag("stay")) {
		stay();
		return;
	}
	for (unsigned int i = 0; i < 3; i++) {
		print("queue %u\n", i);
		wrong_chains(queues[i]);
		wrong_indirect(queues[i]);
	}
	wrong_receiving();
	wrong_sending();
	wrong_headers();
	wrong_commands();
	wrong_command_chains();
}

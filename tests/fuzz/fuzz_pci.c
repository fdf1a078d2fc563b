/* SPDX-License-Identifier: MIT */
/*
 * A guest that does anything to configuration space, BARs, the virtio registers, MSI-X and the
 * rings of a toy device. An input is a row of operations: a byte that says which, and its
 * operands; what an input lacks is 0.
 */
#include "tests/unit/fake_loop.h"
#include "tests/unit/fake_virtio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define OPS_MAX 512

enum op {
	OP_ECAM_READ, /* slot and register (3), size */
	OP_ECAM_WRITE,
	OP_PORT_READ, /* CF8 (4), port, size */
	OP_PORT_WRITE,
	OP_BAR_READ, /* wherever it is: offset (2), size */
	OP_BAR_WRITE,
	OP_MMIO_READ, /* address (4), size */
	OP_MMIO_WRITE,
	OP_MEMORY, /* address (3), size, value */
	OP_TURN,   /* of the loop */
	OP_START,  /* as a driver does: features (1) */
	OP_KICK,   /* queue (1) */
	OP_RAISE,  /* configuration change */
	OP_CHAIN,  /* queue, index, head (1 each) */
	OP_FAIL,   /* doorbells and interrupts from now on: bits (1) */
	OP_COUNT,
};

struct input {
	const uint8_t *data;
	size_t len;
};

static uint64_t take(struct input *in, size_t bytes)
{
	uint64_t value = 0;
	size_t n = MIN(bytes, in->len);

	memcpy(&value, in->data, n);
	in->data += n;
	in->len -= n;
	return value;
}

static unsigned int take_size(struct input *in)
{
	return 1u << (take(in, 1) & 3);
}

static void access_mmio(struct input *in, uint64_t addr, bool write)
{
	unsigned int size = take_size(in);

	if (write)
		mmio_out(addr, size, take(in, size));
	else
		mmio_in(addr, size);
}

static void access_port(struct input *in, bool write)
{
	uint16_t port;
	unsigned int size;

	port_out(LAYOUT_PORT_PCI_ADDR, 4, (uint32_t)take(in, 4));
	port = (uint16_t)(LAYOUT_PORT_PCI_ADDR + (take(in, 1) & 7));
	size = take_size(in);
	if (size > 4)
		size = 4; /* ports have no more */
	if (write)
		port_out(port, size, (uint32_t)take(in, size));
	else
		port_in(port, size);
}

static uint64_t bar_addr(void)
{
	return cfg_in(SLOT, PCI_BASE_ADDRESS_0, 4) & ~0xfull;
}

static void write_memory(struct input *in)
{
	uint64_t addr = take(in, 3) & 0xfffff, value;
	unsigned int size = take_size(in);

	value = take(in, size);
	mem_write(&fake_vm.mem, addr, &value, size);
}

static void start(struct input *in)
{
	uint64_t features = take(in, 1);

	cfg_out(SLOT, PCI_BASE_ADDRESS_0, 4, (uint32_t)BAR_ADDR);
	driver_enable();
	driver_setup((features & 1 ? 1ull << VIRTIO_RING_F_EVENT_IDX : 0) |
		     (features & 2 ? 1ull << VIRTIO_RING_F_INDIRECT_DESC : 0));
	status_out(DRIVER_OK);
}

static void add_chain(struct input *in)
{
	unsigned int queue = take(in, 1) % TOY_QUEUES;
	uint16_t idx = (uint16_t)take(in, 1);

	driver_add(queue, idx, (uint16_t)take(in, 1));
}

static void fail_from_now_on(struct input *in)
{
	uint64_t bits = take(in, 1);

	fake_no_doorbells = bits & 1;
	fake_msi_refused = bits & 2;
}

static void run_op(struct toy *toy, struct loop *loop, struct input *in)
{
	enum op op = take(in, 1) % OP_COUNT;

	switch (op) {
	case OP_ECAM_READ:
	case OP_ECAM_WRITE:
		access_mmio(in, LAYOUT_ECAM_BASE + take(in, 3) % LAYOUT_ECAM_SIZE,
			    op == OP_ECAM_WRITE);
		break;
	case OP_PORT_READ:
	case OP_PORT_WRITE:
		access_port(in, op == OP_PORT_WRITE);
		break;
	case OP_BAR_READ:
	case OP_BAR_WRITE:
		access_mmio(in, bar_addr() + take(in, 2), op == OP_BAR_WRITE);
		break;
	case OP_MMIO_READ:
	case OP_MMIO_WRITE:
		access_mmio(in, take(in, 4), op == OP_MMIO_WRITE);
		break;
	case OP_MEMORY:
		write_memory(in);
		break;
	case OP_TURN:
		fake_loop_turn(loop);
		break;
	case OP_START:
		start(in);
		break;
	case OP_KICK:
		driver_kick(take(in, 1) % (TOY_QUEUES + 1));
		break;
	case OP_RAISE:
		virtio_config_changed(&toy->dev);
		break;
	case OP_CHAIN:
		add_chain(in);
		break;
	case OP_FAIL:
		fail_from_now_on(in);
		break;
	case OP_COUNT:
		break;
	}
}

/* Doorbells on a bus: none, or each queue's from `addr` on. */
static void check_doorbells(const struct bus *bus, uint64_t addr, bool decoded)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < fake_doorbell_count; i++) {
		if (fake_doorbells[i].bus != bus)
			continue;
		assert(fake_doorbells[i].addr - addr < TOY_QUEUES * 4);
		count++;
	}
	assert(count == 0 || (decoded && count == TOY_QUEUES));
}

/* What holds whatever the guest did. */
static void check(const struct toy *toy)
{
	uint64_t addr = bar_addr(), ports = cfg_in(SLOT, PCI_BASE_ADDRESS_1, 4);
	uint32_t command = cfg_in(SLOT, PCI_COMMAND, 2);
	bool memory = (command & PCI_COMMAND_MEMORY) && addr >= LAYOUT_PCI32_BASE &&
		      addr < LAYOUT_PCI32_BASE + LAYOUT_PCI32_SIZE;
	bool io = (command & PCI_COMMAND_IO) && ports >= LAYOUT_PCI_PORTS_BASE &&
		  ports < LAYOUT_PCI_PORTS_BASE + LAYOUT_PCI_PORTS_SIZE;

	assert(cfg_in(SLOT, PCI_VENDOR_ID, 4) == ((0x1040u + TOY_ID) << 16 | 0x1af4));
	assert(cfg_in(0, PCI_CLASS_DEVICE, 2) == 0x0600);
	assert(addr % 0x8000 == 0 && ports % 256 == 1);
	assert(fake_vm.pio.count == 2u + io);      /* CF8, CFC */
	assert(fake_vm.mmio.count == 1u + memory); /* ECAM */
	check_doorbells(&fake_vm.mmio, addr + 0x3000, memory);
	check_doorbells(&fake_vm.pio, ports - 1, io);
	assert(toy->activations == toy->quiesces + toy->live);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct input in = {data, len};
	struct loop loop;
	struct toy *toy;

	fake_loop_init(&loop);
	toy = toy_create_on(&loop);
	if (!toy)
		return 0;
	log_set_level(LOG_LEVEL_ERROR);
	for (unsigned int i = 0; in.len && i < OPS_MAX; i++) {
		run_op(toy, &loop, &in);
		check(toy);
	}
	/* Whatever it was left in, a reset mends it. */
	virtio_set_status(&toy->dev, 0);
	for (unsigned int i = 0; i < 4; i++)
		fake_loop_turn(&loop);
	assert(virtio_get_status(&toy->dev) == 0);
	assert(!toy->live && toy->activations == toy->quiesces);
	virtio_dev_stop(&toy->dev);
	toy_finish_on(toy);
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * What leaving the guest costs, by reason. Each line from the console is a job,
 *
 *	NAME cycles=N
 *
 * which a line answers, with how often it was done in how many cycles. An empty one is the end.
 * At CPL 3, so that a host without virtualization hardware runs the loop itself as it is.
 */
#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/virtio.h"
#include "vmm/layout.h"

#define AT_ONCE 64 /* between looks at the clock */
#define PORT_NOBODYS 0x80 /* where PCs show their progress */
#define ADDR_NOBODYS (LAYOUT_PCI32_BASE + LAYOUT_PCI32_SIZE - 4096)

static struct vqueue queue; /* of the entropy device: nothing is ever offered */

static void do_cpuid(void)
{
	cpuid(0, 0);
}

static void do_port_read(void)
{
	inb(PORT_NOBODYS);
}

static void do_port_write(void)
{
	outb(PORT_NOBODYS, 0);
}

static void do_mmio_read(void)
{
	read32(ADDR_NOBODYS);
}

static void do_mmio_write(void)
{
	write32(ADDR_NOBODYS, 0);
}

static void do_doorbell(void)
{
	write16(queue.doorbell, queue.index);
}

static void do_doorbell_port(void)
{
	outw(queue.doorbell_port, queue.index);
}

static void open_doorbell(void)
{
	static struct vdev dev;

	if (queue.dev)
		return;
	vdev_find(&dev, VIRTIO_RNG, 0);
	vdev_begin(&dev, 0);
	vqueue_init(&queue, &dev, 0, 0);
	vdev_go(&dev);
}

static void (*named(void))(void)
{
	static const struct {
		const char *name;
		void (*fn)(void);
	} all[] = {
		{"cpuid", do_cpuid},
		{"port-read", do_port_read},
		{"port-write", do_port_write},
		{"mmio-read", do_mmio_read},
		{"mmio-write", do_mmio_write},
		{"doorbell", do_doorbell},
		{"doorbell-port", do_doorbell_port},
	};

	for (unsigned int i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (flag(all[i].name))
			return all[i].fn;
	fail("no such job");
}

static void do_job(void)
{
	void (*fn)(void) = named();
	uint64_t start, now, until, done = 0;

	if (flag("doorbell") || flag("doorbell-port"))
		open_doorbell();
	if (flag("doorbell-port") && !queue.doorbell_port) {
		print("cycles=0 requests=0\n");
		return;
	}
	now = start = rdtsc();
	until = start + param("cycles", 1000000000);
	for (; now < until; now = rdtsc(), done += AT_ONCE)
		for (unsigned int i = 0; i < AT_ONCE; i++)
			fn();
	print("cycles=%lu requests=%lu\n", now - start, done);
}

void guest_main(void)
{
	become_user();
	do_jobs(do_job);
}

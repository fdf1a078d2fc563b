/* SPDX-License-Identifier: MIT */
/*
 * What interrupts cost, and what only CPL 0 may do. Each line from the console is a job,
 *
 *	msr|ipi-busy|ipi-halted|irqfd|timer cycles=N
 *
 * which a line answers, with how often it was done in how many cycles: of interprocessor
 * interrupts from sending one to a look at what its handler wrote, of a device's (the random number
 * generator's) from the look at the ring where it put the answer, of the timer what it was late.
 * An empty line is the end. Where the host's KVM brings no interrupts in, nothing is done. With
 * "halt" on its own command line it says "halted" and is.
 */
#include <linux/pci_regs.h>

#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"
#include "guest/lib/io.h"
#include "guest/lib/irq.h"
#include "guest/lib/pci.h"
#include "guest/lib/smp.h"
#include "guest/lib/virtio.h"

#define VECTOR_IPI 0x40
#define VECTOR_TIMER 0x41
#define MSR_APIC_BASE 0x1B
#define MSR_TSC_DEADLINE 0x6E0
#define MSR_X2APIC_LVT_TIMER 0x832
#define LVT_TSC_DEADLINE 0x40000
#define MSI_TO(id) (0xFEE00000 | (id) << 12)
#define AP 1
#define TO_SLEEP 100000ull    /* cycles until a halted processor's thread has gone to sleep */
#define DEADLINE 200000ull    /* cycles from now */
#define IS_THERE 2000000000ull /* cycles: no interrupt until then, none ever */

static volatile uint32_t came; /* interrupts to the other processor */
static volatile uint64_t fired; /* when the timer's last one was handled, or 0 */
static volatile bool halt, hears; /* the other processor: is to, and does */
static bool there, asked;
static struct vdev rng;
static struct vqueue queue; /* its only one */

IRQ_HANDLER(ipi_handler)
{
	came++;
	irq_done();
}

IRQ_HANDLER(timer_handler)
{
	fired = rdtsc();
	irq_done();
}

/* The other processor: it halts between interrupts, or spins. */
static void other_processor(void)
{
	irq_enable();
	hears = true;
	for (;;) {
		if (halt)
			irq_wait();
		else
			irq_on();
		pause();
	}
}

static void wait_cycles(uint64_t cycles)
{
	uint64_t start = rdtsc();

	while (rdtsc() - start < cycles)
		pause();
}

/* Do interrupts come in? One to ourselves tells. */
static bool have_interrupts(void)
{
	uint64_t start = rdtsc();

	if (asked)
		return there;
	asked = true;
	irq_set(VECTOR_IPI, ipi_handler);
	irq_set(VECTOR_TIMER, timer_handler);
	irq_enable();
	irq_on();
	irq_send(apic_id(), VECTOR_IPI);
	while (!came && rdtsc() - start < IS_THERE)
		pause();
	irq_off();
	there = came;
	return there;
}

static uint64_t send_one(void)
{
	uint32_t before = came;
	uint64_t start = rdtsc();

	irq_send(AP, VECTOR_IPI);
	while (came == before)
		CHECK(rdtsc() - start < IS_THERE);
	return rdtsc() - start;
}

/* Its interrupts go where ours do, to the same handler. */
static void aim_device(void)
{
	unsigned int cap = pci_capability(rng.slot, PCI_CAP_ID_MSIX, 0);
	uint32_t where = read32(pci_at(rng.slot, cap + PCI_MSIX_TABLE));
	uint64_t table = pci_bar(rng.slot, where & PCI_MSIX_TABLE_BIR);

	CHECK(cap);
	table += where & PCI_MSIX_TABLE_OFFSET;
	write32(table + PCI_MSIX_ENTRY_LOWER_ADDR, MSI_TO(AP));
	write32(table + PCI_MSIX_ENTRY_UPPER_ADDR, 0);
	write32(table + PCI_MSIX_ENTRY_DATA, VECTOR_IPI);
	write32(table + PCI_MSIX_ENTRY_VECTOR_CTRL, 0);
	write16(pci_at(rng.slot, cap + PCI_MSIX_FLAGS), PCI_MSIX_FLAGS_ENABLE);
}

static void set_up_device(void)
{
	static uint64_t byte;

	vdev_find(&rng, VIRTIO_RNG, 0);
	aim_device();
	vdev_begin(&rng, 0);
	vqueue_init(&queue, &rng, 0, 0);
	queue.avail->flags = 0;
	write16(COMMON(&rng, queue_msix_vector), 0);
	vdev_go(&rng);
	vqueue_chain(&queue, 0, &(struct vbuf){&byte, 1}, 0, 1);
}

/* minivmm writes to the irqfd right after it showed the ring: that write, and all that follows. */
static uint64_t device_sends_one(void)
{
	uint32_t before = came;
	uint64_t start = rdtsc();
	struct vring_used_elem elem;

	vqueue_offer(&queue, 0);
	vqueue_tell(&queue);
	while (!vqueue_poll(&queue, &elem))
		CHECK(rdtsc() - start < IS_THERE);
	start = rdtsc();
	while (came == before)
		CHECK(rdtsc() - start < IS_THERE);
	return rdtsc() - start;
}

static uint64_t timer_late(void)
{
	uint64_t deadline;

	fired = 0;
	wrmsr(MSR_X2APIC_LVT_TIMER, LVT_TSC_DEADLINE | VECTOR_TIMER);
	deadline = rdtsc() + DEADLINE;
	wrmsr(MSR_TSC_DEADLINE, deadline);
	irq_on();
	while (!fired)
		CHECK((int64_t)(rdtsc() - deadline) < (int64_t)IS_THERE);
	irq_off();
	return fired - deadline;
}

static uint64_t read_msr(void)
{
	uint64_t start = rdtsc();

	rdmsr(MSR_APIC_BASE);
	return rdtsc() - start;
}

static void do_job(void)
{
	bool irqfd = flag("irqfd"), ipi = irqfd || flag("ipi-busy") || flag("ipi-halted");
	bool timer = flag("timer");
	uint64_t start, length = param("cycles", 1000000000), sum = 0, done = 0;

	if (((ipi || timer) && !have_interrupts()) || (timer && !(cpuid(1, 0).ecx >> 24 & 1))) {
		print("cycles=0 requests=0\n");
		return;
	}
	if (ipi && !hears)
		smp_launch(AP, other_processor);
	while (ipi && !hears)
		pause();
	halt = flag("ipi-halted");
	if (ipi)
		send_one(); /* in whatever state it was */
	if (irqfd && !queue.size)
		set_up_device();
	for (start = rdtsc(); rdtsc() - start < length; done++) {
		if (halt)
			wait_cycles(TO_SLEEP);
		sum += timer ? timer_late() : irqfd ? device_sends_one() :
		       ipi ? send_one() : read_msr();
	}
	print("cycles=%lu requests=%lu\n", sum, done);
}

static void halt_forever(void)
{
	print("halted\n");
	for (;;)
		__asm__ volatile("hlt");
}

void guest_main(void)
{
	if (flag("halt"))
		halt_forever();
	smp_init(2);
	do_jobs(do_job);
}

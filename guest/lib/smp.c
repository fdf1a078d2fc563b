/* SPDX-License-Identifier: MIT */
#include "guest/lib/smp.h"

#include "guest/lib/cpu.h"
#include "guest/lib/guest.h"

#define MSR_APIC_BASE 0x1B
#define APIC_BASE_ON 0xC00 /* global and x2APIC enable */
#define MSR_X2APIC_ID 0x802
#define MSR_X2APIC_ICR 0x830
#define ICR_INIT 0x4500
#define ICR_SIPI 0x4600

#define TRAMPOLINE 0x8000ull
#define AP_STACK_BYTES 2048
#define WAIT_CYCLES 20000000000ull /* some seconds */

extern char trampoline[], trampoline_end[];
void ap_main(void);

uint32_t ap_stacks;
static void (*volatile ap_fn)(void);
static unsigned int ap_done;
static void (*volatile user_fn)(void *arg);
static void *volatile user_arg;
static void (*volatile launched_fn)(void);

void apic_enable(void)
{
	CHECK(cpuid(1, 0).ecx >> 21 & 1);
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_ON);
}

uint32_t apic_id(void)
{
	return (uint32_t)rdmsr(MSR_X2APIC_ID);
}

void ap_main(void)
{
	apic_enable();
	ap_fn();
	__atomic_add_fetch(&ap_done, 1, __ATOMIC_RELEASE);
}

void smp_init(unsigned int n)
{
	memcpy((void *)TRAMPOLINE, trampoline, (size_t)(trampoline_end - trampoline));
	ap_stacks = (uint32_t)(uint64_t)alloc(n * AP_STACK_BYTES, 16);
	apic_enable();
}

static void run_user(void)
{
	void (*fn)(void *arg) = user_fn;
	void *arg = user_arg;

	become_user();
	__atomic_add_fetch(&ap_done, 1, __ATOMIC_RELEASE);
	fn(arg);
	fail("a processor came back");
}

static void run_launched(void)
{
	void (*fn)(void) = launched_fn;

	__atomic_add_fetch(&ap_done, 1, __ATOMIC_RELEASE);
	fn();
	fail("a processor came back");
}

void smp_launch(uint32_t id, void (*fn)(void))
{
	launched_fn = fn;
	smp_run(id, run_launched);
}

void smp_start(uint32_t id, void (*fn)(void *arg), void *arg)
{
	user_fn = fn;
	user_arg = arg;
	smp_run(id, run_user);
}

void smp_run(uint32_t id, void (*fn)(void))
{
	unsigned int before = __atomic_load_n(&ap_done, __ATOMIC_ACQUIRE);
	uint64_t start = rdtsc();

	ap_fn = fn;
	wrmsr(MSR_X2APIC_ICR, (uint64_t)id << 32 | ICR_INIT);
	wrmsr(MSR_X2APIC_ICR, (uint64_t)id << 32 | ICR_SIPI | TRAMPOLINE >> 12);
	while (__atomic_load_n(&ap_done, __ATOMIC_ACQUIRE) == before) {
		if (rdtsc() - start > WAIT_CYCLES)
			fail("processor %u did not start", id);
		pause();
	}
}

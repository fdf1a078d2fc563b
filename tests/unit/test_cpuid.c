/* SPDX-License-Identifier: MIT */
/*
 * The topology each vCPU is told, read back as Linux reads it: every way a processor has of
 * saying who it is must say the same.
 */
#include "vmm/cpuid.h"

#include <asm/kvm_para.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/util.h"
#include "vmm/topology.h"

#define INDEXED KVM_CPUID_FLAG_SIGNIFCANT_INDEX

struct host {
	const char *name;
	bool amd;
	unsigned int nent;
	struct kvm_cpuid_entry2 entries[24];
};

/* A host of 2 sockets with 16 cores of 2 threads: nothing of that may shine through. */
static const struct host intel = {
	.name = "Intel", .nent = 18,
	.entries = {
		{0, 0, 0, 0x20, 0x756e6547, 0x6c65746e, 0x49656e69},
		{1, 0, 0, 0x606a6, 0x37400800, 0x76fa3203, 0x1f8bfbff},
		{2, 0, 0, 0xfeff01, 0xf0, 0, 0},
		{4, 0, INDEXED, 0x7c004121, 0x1c0003f, 0x3f, 0},
		{4, 1, INDEXED, 0x7c004122, 0x1c0003f, 0x3f, 0},
		{4, 2, INDEXED, 0x7c004143, 0x4c0003f, 0x7ff, 0},
		{4, 3, INDEXED, 0x7c07c163, 0x2c0003f, 0xdfff, 4},
		{4, 4, INDEXED, 0, 0, 0, 0},
		{7, 0, INDEXED, 2, 0xf1bf27eb, 0x405e, 0xac000400},
		{0xb, 0, INDEXED, 1, 2, 0x100, 55},
		{0xb, 1, INDEXED, 6, 32, 0x201, 55},
		{0xd, 0, INDEXED, 7, 0x340, 0x340, 0},
		{0x1f, 0, INDEXED, 1, 2, 0x100, 55},
		{0x1f, 1, INDEXED, 6, 32, 0x201, 55},
		{KVM_CPUID_FEATURES, 0, 0, 0x1007efb, 0, 0, 0},
		{0x80000000, 0, 0, 0x80000008, 0, 0, 0},
		{0x80000001, 0, 0, 0, 0, 0x121, 0x2c100800},
		{0x80000008, 0, 0, 0x302e, 0x200, 0, 0},
	},
};

static const struct host amd = {
	.name = "AMD", .amd = true, .nent = 19,
	.entries = {
		{0, 0, 0, 0x10, 0x68747541, 0x444d4163, 0x69746e65},
		{1, 0, 0, 0xa20f12, 0x21200800, 0x7ed8320b, 0x178bfbff},
		{7, 0, INDEXED, 0, 0x219c95a9, 0x40068c, 0},
		{0xb, 0, INDEXED, 1, 2, 0x100, 33},
		{0xb, 1, INDEXED, 5, 32, 0x201, 33},
		{0xd, 0, INDEXED, 7, 0x340, 0x340, 0},
		{KVM_CPUID_FEATURES, 0, 0, 0x1007efb, 0, 0, 0},
		{0x80000000, 0, 0, 0x80000026, 0, 0, 0},
		{0x80000001, 0, 0, 0xa20f12, 0x20000000, 0x75c237ff, 0x2fd3fbff},
		{0x80000008, 0, 0, 0x3030, 0x111ef657, 0x1501f, 0x10007},
		{0x8000001d, 0, INDEXED, 0x4121, 0x1c0003f, 0x3f, 0},
		{0x8000001d, 1, INDEXED, 0x4122, 0x1c0003f, 0x3f, 0},
		{0x8000001d, 2, INDEXED, 0x4143, 0x1c0003f, 0x3ff, 2},
		{0x8000001d, 3, INDEXED, 0x3c163, 0x3c0003f, 0x7fff, 1},
		{0x8000001d, 4, INDEXED, 0, 0, 0, 0},
		{0x8000001e, 0, 0, 33, 0x110, 0x101, 0},
		{0x80000021, 0, 0, 0x4d, 0, 0, 0},
		{0x80000026, 0, INDEXED, 1, 2, 0x100, 33},
		{0x80000026, 1, INDEXED, 5, 32, 0x201, 33},
	},
};

static const struct host *const hosts[] = {&intel, &amd};

/* As Zen 1 and older Intels are: no leaf 0xB. */
static const struct host old = {
	.name = "old", .nent = 2,
	.entries = {
		{0, 0, 0, 0xa, 0x756e6547, 0x6c65746e, 0x49656e69},
		{1, 0, 0, 0x10676, 0x37400800, 0x0408e3fd, 0xbfebfbff},
	},
};

static const struct topology shapes[] = {
	{1, 1, 1}, {1, 2, 1}, {1, 3, 1}, {1, 8, 1}, {1, 88, 1}, {1, 255, 1}, {1, 288, 1},
	{1, 1, 2}, {2, 1, 1}, {2, 3, 2}, {4, 11, 2}, {3, 5, 4}, {2, 65, 2},
};

static struct kvm_cpuid2 *fit(const struct host *host, const struct topology *t, uint32_t apic_id)
{
	struct kvm_cpuid2 *in = malloc(sizeof(*in) + sizeof(host->entries)), *out;

	in->nent = host->nent;
	in->padding = 0;
	memcpy(in->entries, host->entries, host->nent * sizeof(in->entries[0]));
	out = cpuid_for_vcpu(in, t, apic_id);
	assert_non_null(out);
	assert_memory_equal(in->entries, host->entries, host->nent * sizeof(in->entries[0]));
	free(in);
	return out;
}

/* As KVM looks it up; there must be one only. */
static const struct kvm_cpuid_entry2 *leaf(const struct kvm_cpuid2 *cpuid, uint32_t function,
					   uint32_t index)
{
	const struct kvm_cpuid_entry2 *found = NULL;

	for (unsigned int i = 0; i < cpuid->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function != function || ((e->flags & INDEXED) && e->index != index))
			continue;
		if (found)
			fail_msg("leaf 0x%x, %u is there twice", function, index);
		found = e;
	}
	return found;
}

static const struct kvm_cpuid_entry2 *need(const struct kvm_cpuid2 *cpuid, uint32_t function,
					   uint32_t index)
{
	const struct kvm_cpuid_entry2 *e = leaf(cpuid, function, index);

	if (!e)
		fail_msg("leaf 0x%x, %u is missing", function, index);
	return e;
}

static unsigned int field(uint32_t reg, unsigned int high, unsigned int low)
{
	return reg >> low & (uint32_t)((1ull << (high - low + 1)) - 1);
}

/* The least number of bits that tells n ids apart. */
static unsigned int bits_for(unsigned int n)
{
	for (unsigned int bits = 0;; bits++)
		if (1ull << bits >= n)
			return bits;
}

/* Ids that a core has, and a socket, each rounded up to a power of two. */
static unsigned int core_ids(const struct topology *t)
{
	return 1u << bits_for(t->threads);
}

static unsigned int socket_ids(const struct topology *t)
{
	return core_ids(t) << bits_for(t->cores);
}

static void check_leaf_1(const struct kvm_cpuid2 *cpuid, const struct topology *t, uint32_t id)
{
	const struct kvm_cpuid_entry2 *e = need(cpuid, 1, 0);
	unsigned int n = t->cores * t->threads;

	assert_int_equal(field(e->ebx, 31, 24), id & 0xff);
	assert_int_equal(field(e->ebx, 15, 0), 0x0800); /* CLFLUSH size, brand: the host's */
	assert_int_equal(field(e->edx, 28, 28), n > 1);
	if (n > 1) /* ids of the package, rounded up to a power of two, as far as 8 bits go */
		assert_int_equal(field(e->ebx, 23, 16), MIN(socket_ids(t), 255u));
	assert_true(e->ecx >> 21 & 1); /* x2APIC */
	assert_true(e->ecx >> 24 & 1); /* TSC deadline */
	assert_true(e->ecx >> 31 & 1); /* hypervisor */
}

static void check_extended(const struct kvm_cpuid2 *cpuid, uint32_t function,
			   const struct topology *t, uint32_t id)
{
	const struct kvm_cpuid_entry2 *smt = need(cpuid, function, 0);
	const struct kvm_cpuid_entry2 *core = need(cpuid, function, 1);
	const struct kvm_cpuid_entry2 *end = need(cpuid, function, 2);

	assert_int_equal(field(smt->ecx, 15, 8), 1);
	assert_int_equal(field(core->ecx, 15, 8), 2);
	assert_int_equal(field(end->ecx, 15, 8), 0);
	for (uint32_t i = 0; i < 3; i++) {
		const struct kvm_cpuid_entry2 *e = need(cpuid, function, i);

		assert_int_equal(field(e->ecx, 7, 0), i);
		assert_int_equal(e->edx, id);
		assert_true(e->flags & INDEXED);
	}
	assert_int_equal(1u << field(smt->eax, 4, 0), core_ids(t));
	assert_int_equal(field(smt->ebx, 15, 0), t->threads);
	assert_int_equal(1u << field(core->eax, 4, 0), socket_ids(t));
	assert_int_equal(field(core->ebx, 15, 0), t->cores * t->threads);
	assert_int_equal(field(end->ebx, 15, 0), 0);
}

static void check_caches(const struct kvm_cpuid2 *cpuid, const struct host *host,
			 const struct topology *t)
{
	uint32_t function = host->amd ? 0x8000001d : 4;

	for (uint32_t i = 0; i < 4; i++) {
		const struct kvm_cpuid_entry2 *e = need(cpuid, function, i);
		unsigned int ids = field(e->eax, 25, 14) + 1;

		if (field(e->eax, 7, 5) < 3)
			assert_int_equal(ids, core_ids(t));
		else
			assert_int_equal(ids, MIN(socket_ids(t), 4096u));
		if (!host->amd)
			assert_int_equal(field(e->eax, 31, 26) + 1,
					 MIN(1u << bits_for(t->cores), 64u));
		else
			assert_int_equal(field(e->eax, 31, 26), 0);
		for (unsigned int j = 0; j < host->nent; j++) {
			const struct kvm_cpuid_entry2 *h = &host->entries[j];

			if (h->function != function || h->index != i)
				continue;
			assert_int_equal(field(e->eax, 13, 0), field(h->eax, 13, 0));
			assert_int_equal(e->ebx, h->ebx);
			assert_int_equal(e->ecx, h->ecx);
			assert_int_equal(e->edx, h->edx);
		}
	}
	assert_int_equal(field(need(cpuid, function, 4)->eax, 4, 0), 0);
}

static void check_amd(const struct kvm_cpuid2 *cpuid, const struct topology *t, uint32_t id)
{
	unsigned int n = t->cores * t->threads;
	const struct kvm_cpuid_entry2 *e = need(cpuid, 0x80000008, 0);

	assert_int_equal(field(e->ecx, 7, 0) + 1, MIN(n, 256u));
	assert_int_equal(1u << field(e->ecx, 15, 12), MIN(socket_ids(t), 1u << 15));
	assert_int_equal(field(e->ecx, 11, 8), 0);
	assert_int_equal(field(e->ecx, 31, 16), 1); /* the performance TSC's size: the host's */
	assert_int_equal(e->eax, 0x3030);
	assert_int_equal(e->ebx, 0x111ef657);
	assert_int_equal(e->edx, 0x10007);
	e = need(cpuid, 0x8000001e, 0);
	assert_int_equal(e->eax, id);
	assert_int_equal(field(e->ebx, 15, 8) + 1, t->threads);
	assert_int_equal(field(e->ebx, 7, 0), id / core_ids(t) & 0xff);
	assert_int_equal(field(e->ecx, 10, 8), 0); /* nodes per package - 1 */
	assert_int_equal(field(e->ecx, 7, 0), id / socket_ids(t)); /* the node: a socket each */
	assert_int_equal(field(need(cpuid, 0x80000001, 0)->ecx, 1, 1), n > 1 && t->threads == 1);
	/* Zen 4's leaf would contradict 0xB if it were the host's. */
	for (uint32_t i = 0; i < 4; i++)
		assert_null(leaf(cpuid, 0x80000026, i));
}

/* All that is not topology is the host's, bit by bit. */
static void check_rest(const struct kvm_cpuid2 *cpuid, const struct host *host)
{
	static const uint32_t ours[] = {1, 4, 0xb, 0x1f, KVM_CPUID_FEATURES, 0x80000001, 0x80000008,
					0x8000001d, 0x8000001e, 0x80000026};

	for (unsigned int i = 0; i < host->nent; i++) {
		const struct kvm_cpuid_entry2 *h = &host->entries[i];
		bool topology = false;

		for (size_t j = 0; j < ARRAY_LEN(ours); j++)
			topology |= ours[j] == h->function;
		if (!topology)
			assert_memory_equal(need(cpuid, h->function, h->index), h, sizeof(*h));
	}
	if (host->amd)
		return;
	/* AMD's fields mean nothing, or something else, on an Intel. */
	assert_int_equal(need(cpuid, 0x80000001, 0)->ecx, 0x121);
	assert_int_equal(need(cpuid, 0x80000008, 0)->ecx, 0);
}

static void check(const struct host *host, const struct topology *t, unsigned int index)
{
	uint32_t id = topology_apic_id(t, index);
	uint32_t last = topology_apic_id(t, topology_count(t) - 1);
	struct kvm_cpuid2 *cpuid = fit(host, t, id);
	uint32_t features = need(cpuid, KVM_CPUID_FEATURES, 0)->eax;

	check_leaf_1(cpuid, t, id);
	check_extended(cpuid, 0xb, t, id);
	if (host->amd) {
		check_amd(cpuid, t, id);
		assert_null(leaf(cpuid, 0x1f, 0));
	} else {
		check_extended(cpuid, 0x1f, t, id);
	}
	check_caches(cpuid, host, t);
	check_rest(cpuid, host);
	/* Without 15 bits of destination, Linux leaves all from id 255 on alone. */
	assert_int_equal(features >> KVM_FEATURE_MSI_EXT_DEST_ID & 1, last > 254);
	assert_int_equal(features & ~(1u << KVM_FEATURE_MSI_EXT_DEST_ID), 0x1007efb);
	free(cpuid);
}

static void test_topology(void **state)
{
	for (size_t host = 0; host < ARRAY_LEN(hosts); host++)
		for (size_t i = 0; i < ARRAY_LEN(shapes); i++)
			for (unsigned int j = 0; j < topology_count(&shapes[i]); j++)
				check(hosts[host], &shapes[i], j);
}

/* Each processor's id is its own, and says who shares its core and its socket. */
static void test_ids(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		const struct topology *t = &shapes[i];

		for (unsigned int j = 0; j < topology_count(t); j++) {
			uint32_t id = topology_apic_id(t, j);

			assert_int_equal(id / core_ids(t) == topology_apic_id(t, 0) / core_ids(t),
					 j < t->threads);
			assert_int_equal(id / socket_ids(t), j / (t->cores * t->threads));
			assert_true(j == 0 || id > topology_apic_id(t, j - 1));
		}
	}
}

/* Any number at all: what was worked out must fit its field. */
static void test_every_count(void **state)
{
	for (unsigned int n = 1; n <= 4096; n += n < 520 ? 1 : 511)
		for (size_t host = 0; host < ARRAY_LEN(hosts); host++)
			check(hosts[host], &(struct topology){1, n, 1}, n - 1);
}

static void test_old_host(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(shapes); i++) {
		uint32_t id = topology_apic_id(&shapes[i], topology_count(&shapes[i]) - 1);
		struct kvm_cpuid2 *cpuid = fit(&old, &shapes[i], id);

		check_leaf_1(cpuid, &shapes[i], id);
		assert_null(leaf(cpuid, 0xb, 0));
		assert_null(leaf(cpuid, 0x1f, 0));
		assert_int_equal(cpuid->nent, 2);
		free(cpuid);
	}
}

static unsigned int phys_bits(const struct host *host)
{
	struct kvm_cpuid2 *in = malloc(sizeof(*in) + sizeof(host->entries));
	unsigned int bits;

	in->nent = host->nent;
	memcpy(in->entries, host->entries, sizeof(host->entries));
	bits = cpuid_phys_bits(in);
	free(in);
	return bits;
}

static void test_phys_bits(void **state)
{
	assert_int_equal(phys_bits(&intel), 46);
	assert_int_equal(phys_bits(&amd), 48);
	assert_int_equal(phys_bits(&old), 36);
}

/* What this host's KVM reports, fitted, is what it takes. */
static void test_real_host(void **state)
{
	const struct topology topology = {1, 288, 1};
	struct kvm_cpuid2 *in = calloc(1, sizeof(*in) + 256 * sizeof(in->entries[0])), *out;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm, vcpu;

	if (kvm < 0) {
		free(in);
		skip();
	}
	in->nent = 256;
	assert_int_equal(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, in), 0);
	out = cpuid_for_vcpu(in, &topology, 287);
	vm = ioctl(kvm, KVM_CREATE_VM, 0);
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	assert_true(vm >= 0 && vcpu >= 0);
	assert_int_equal(ioctl(vcpu, KVM_SET_CPUID2, out), 0);
	assert_int_equal(field(need(out, 1, 0)->ebx, 31, 24), 287 & 0xff);
	free(out);
	free(in);
	close(vcpu);
	close(vm);
	close(kvm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_topology),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_every_count),
		cmocka_unit_test(test_old_host),
		cmocka_unit_test(test_phys_bits),
		cmocka_unit_test(test_real_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

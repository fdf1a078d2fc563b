/* SPDX-License-Identifier: MIT */
/* Which machines there are, and what is measured in each. */
#include <stddef.h>

#include "cmd/bench/bench.h"
#include "util/util.h"

#define JOBS(list) .jobs = (list), .job_count = ARRAY_LEN(list)
#define OPTIONS(...) .options = (const char *const[]){__VA_ARGS__, NULL}

static const struct bench_job exits[] = {
	{"exit: CPUID, to KVM", "cpuid", BENCH_NS, false},
	{"exit: port read, to minivmm", "port-read", BENCH_NS, false},
	{"exit: port write, to minivmm", "port-write", BENCH_NS, false},
	{"exit: MMIO read, to minivmm", "mmio-read", BENCH_NS, false},
	{"exit: MMIO write, to minivmm", "mmio-write", BENCH_NS, false},
	{"doorbell: ioeventfd at a port", "doorbell-port", BENCH_NS, false},
	{"doorbell: ioeventfd in memory", "doorbell", BENCH_NS, false},
};

static const struct bench_job irqs[] = {
	{"exit: RDMSR, to KVM", "msr", BENCH_NS, false},
	{"IPI to a busy vCPU", "ipi-busy", BENCH_NS, false},
	{"IPI to a halted vCPU", "ipi-halted", BENCH_NS, false},
	{"irqfd, to a busy vCPU", "irqfd", BENCH_NS, false},
	{"timer: late by", "timer", BENCH_NS, false},
};

/* 16 KiB stay in the first cache, 64 MiB in none. */
static const struct bench_job ram[] = {
	{"memory: first touch of 4 KiB", "touch", BENCH_NS, true},
	{"memory: read", "read bytes=67108864", BENCH_GIB_S, false},
	{"memory: write", "write bytes=67108864", BENCH_GIB_S, false},
	{"memory: copy", "copy bytes=67108864", BENCH_GIB_S, false},
	{"memory: load, in 16 KiB", "chase bytes=16384", BENCH_NS, false},
	{"memory: load, in 64 MiB", "chase bytes=67108864", BENCH_NS, false},
};

static const struct bench_job thp[] = {
	{"memory, THP: first touch of 4 KiB", "touch", BENCH_NS, true},
	{"memory, THP: load, in 64 MiB", "chase bytes=67108864", BENCH_NS, false},
};

static const struct bench_job huge[] = {
	{"memory, 2M: first touch of 4 KiB", "touch", BENCH_NS, true},
	{"memory, 2M: load, in 64 MiB", "chase bytes=67108864", BENCH_NS, false},
};

#define DISK_JOBS(form) \
	{ \
		{"disk, " form ": 4k read, one by one", "random bytes=4096 depth=1", BENCH_US, \
		 false}, \
		{"disk, " form ": 4k write, one by one", "write random bytes=4096 depth=1", \
		 BENCH_US, false}, \
		{"disk, " form ": 4k read, 32 at a time", "random bytes=4096 depth=32", \
		 BENCH_RATE, false}, \
		{"disk, " form ": 4k write, 32 at a time", \
		 "write random bytes=4096 depth=32", BENCH_RATE, false}, \
		{"disk, " form ": 256k read, 8 at a time", "bytes=262144 depth=8", BENCH_RATE, \
		 false}, \
	}

static const struct bench_job raw[] = DISK_JOBS("raw");
static const struct bench_job qcow2[] = DISK_JOBS("qcow2");

#define NET_JOBS(path) \
	{ \
		{"net, " path ": 60 bytes to and fro, one by one", "echo bytes=60 depth=1", \
		 BENCH_US, false}, \
		{"net, " path ": 60 bytes to and fro, 64 at a time", "echo bytes=60 depth=64", \
		 BENCH_RATE, false}, \
		{"net, " path ": 1514 bytes to and fro, 64 at a time", \
		 "echo bytes=1514 depth=64", BENCH_RATE, false}, \
	}

static const struct bench_job net[] = NET_JOBS("user space");
static const struct bench_job vhost[] = NET_JOBS("vhost");

const struct bench_group bench_groups[] = {
	{.measure = bench_start_measure},
	{BENCH_GUEST_EXITS, JOBS(exits), OPTIONS("--mem", "64M")},
	{BENCH_GUEST_IRQ, JOBS(irqs), OPTIONS("--mem", "64M", "--cpus", "2")},
	{BENCH_GUEST_RAM, JOBS(ram), OPTIONS("--mem", "513M,hugepages=off")},
	{BENCH_GUEST_RAM, JOBS(thp), OPTIONS("--mem", "513M,hugepages=thp"),
	 .prepare = bench_thp_prepare},
	{BENCH_GUEST_RAM, JOBS(huge), OPTIONS("--mem", "514M,hugepages=2M"),
	 .prepare = bench_huge_prepare},
	{BENCH_GUEST_BLK, JOBS(raw), OPTIONS("--mem", "64M"), bench_raw_prepare,
	 bench_disk_started, bench_disk_finish},
	{BENCH_GUEST_BLK, JOBS(qcow2), OPTIONS("--mem", "64M"), bench_qcow2_prepare,
	 bench_disk_started, bench_disk_finish},
	{BENCH_GUEST_NET, JOBS(net), OPTIONS("--mem", "64M"), bench_net_prepare,
	 bench_net_started},
	{BENCH_GUEST_NET, JOBS(vhost), OPTIONS("--mem", "64M"), bench_vhost_prepare,
	 bench_net_started},
};
const size_t bench_group_count = ARRAY_LEN(bench_groups);

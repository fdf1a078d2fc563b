/* SPDX-License-Identifier: MIT */
/*
 * The machine: the one place that says which devices exist, at which address, on which loop.
 * A reboot is a new board (VM and devices) around the same back ends.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "block/block.h"
#include "net/edge.h"
#include "net/net.h"
#include "pin.h"
#include "vmm/vm.h"

#define MACHINE_DISKS_MAX 16
#define MACHINE_NETS_MAX 8
#define MACHINE_DISK_QUEUES_MAX 64
#define MACHINE_DISK_BPS_MIN 4096u
#define MACHINE_DISK_RATE_MAX (1ull << 40)
#define MACHINE_POLL_MAX_US 10000

struct machine_disk {
	struct blk_options blk;
	const char *serial;  /* at most 20 bytes, or NULL */
	unsigned int queues; /* 0: one for each processor, up to a few */
	uint64_t iops, bps;  /* limits per second, or 0 */
	int poll_us;         /* 0 to MACHINE_POLL_MAX_US, or LOOP_AWAKE_AUTO: loop_stay_awake */
};

struct machine_net {
	struct net_options net;
	struct edge_options edge;
	uint8_t mac[6];
	int poll_us;  /* as a disk's */
	bool has_mac; /* else a stable one from the machine's name or first disk */
};

struct machine_config {
	const char *name; /* of the VM: NULL is "minivmm" */
	const char *kernel;
	const char *initrd;  /* or NULL */
	const char *cmdline; /* or NULL: one is made */
	struct vm_options vm; /* its memory and processors; `pins` follow from: */
	struct pin_options pin;
	struct machine_disk disks[MACHINE_DISKS_MAX];
	unsigned int disk_count;
	struct machine_net nets[MACHINE_NETS_MAX];
	unsigned int net_count;
	bool kernel_cache; /* keep unpacked kernels for the next machine */
	bool no_kaslr;     /* the kernel goes where it was linked */
	bool no_reboot; /* the guest's reboot ends the machine */
	bool force;     /* try a stock kernel on a host that cannot run it */
	bool stats;     /* count, and print it on stderr at the end and on SIGUSR1 */
	const char *stats_file; /* for the same as JSON, a line for each boot; or NULL */
	bool timeline;  /* print on stderr at the end when what happened first */
	const char *timeline_file; /* .json, a line for each boot; or .svg; or NULL */
};

/*
 * Build it, run it until it ends, on this thread. 0: the guest powered off, or the user quit;
 * 1: it failed; logged. SIGTERM and SIGINT press the power button, after which a reboot ends
 * the machine too; a second one quits, as SIGHUP does. Those that are ignored stay so.
 */
int machine_run(const struct machine_config *config);

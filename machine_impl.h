/* SPDX-License-Identifier: MIT */
/* Inside the machine: what machine.c (the board) and the other machine_*.c share. */
#pragma once

#include <sched.h>
#include <signal.h>
#include <stdio.h>

#include "machine.h"
#include "timeline.h"
#include "util/moment.h"
#include "vmm/kvm.h"

struct run_entry;

#define VIRTIO_MAX (MACHINE_DISKS_MAX + MACHINE_NETS_MAX + 1)

struct board {
	struct vm *vm;
	struct loop_watch *end_watch;
	struct pci_host *pci;
	struct serial *serial;
	struct rtc *rtc;
	struct power *power;
	struct mark *mark; /* with --timeline, or NULL */
	struct virtio_dev *devs[VIRTIO_MAX];
	struct virtio_pci *transports[VIRTIO_MAX];
	unsigned int dev_count;
	struct moment has_memory, has_devices, loaded;
};

struct disk {
	struct loop *loop;
	struct blk *blk;
	struct blk_limit *limit; /* or NULL */
};

struct nic {
	struct loop *loop;
	struct net *net;
	struct edge *edge; /* or NULL */
	uint8_t mac[6];
	struct run_nic_live *live; /* where it counts for others to see, or NULL */
};

struct machine {
	const struct machine_config *config;
	struct kvm kvm;
	cpu_set_t *pins; /* where each vCPU may run, or NULL */
	struct loop *loop;
	struct console *console;
	struct boot *boot;
	struct disk disks[MACHINE_DISKS_MAX];
	unsigned int disk_count;
	struct nic nics[MACHINE_NETS_MAX];
	unsigned int nic_count;
	sigset_t signals; /* that we hear */
	int signal_fd;
	struct loop_watch *signal_watch;
	bool asked_to_end; /* the power button was pressed by a signal */
	bool quit;         /* at once, whatever the guest did */
	struct run *run;   /* by which others find us, or NULL */
	FILE *stats_file;  /* of --stats=FILE, or NULL */
	int ask_fd;        /* where others ask for what was counted, or -1 */
	struct loop_watch *ask_watch;
	FILE *timeline_file;
	struct timeline timeline; /* of this boot */
	uint64_t exec_ns;
	struct moment kvm_ready, opened;
	unsigned int boots; /* that ended */
	bool powered_off;  /* by the guest: what it wrote to its disks is whole */
	struct board board;
};

/*
 * Open what outlives a reboot and start its loops; what needs no rights and names the user's
 * mistakes comes first. machine_close undoes whatever was done; -errno where a disk could not
 * be written back. Both log.
 */
int machine_open(struct machine *machine);
int machine_close(struct machine *machine);

/*
 * Be found by `minivmm net`, from when all is open until nothing runs any more. Where that
 * cannot be, the machine runs all the same.
 */
void machine_register(struct machine *machine);
void machine_unregister(struct machine *machine);
/* Of another machine on the same bridge with the same address; once. */
void machine_warn_of_clash(const struct run_entry *own);

/* The user's file, open for as long as the machine is. 0 or -errno; logs. */
int machine_stats_open(struct machine *machine);
void machine_stats_close(struct machine *machine);
/* The board's vCPUs and devices are about to start. 0 or -errno; logs. */
int machine_stats_start(struct machine *machine);
/* Answer those who ask, from machine_register until machine_unregister. */
void machine_stats_listen(struct machine *machine);
void machine_stats_deafen(struct machine *machine);
/* What was counted until now; and, with its vCPUs stopped, all of the board's. */
void machine_stats_show(const struct machine *machine);
void machine_stats_end(struct machine *machine);

/* For a file that `option` names, if it does. 0 or -errno; logs. The second accepts NULL. */
int output_open(const char *option, const char *path, FILE **file);
void output_close(const char *option, const char *path, FILE *file);
/* A table on standard error, which may be a terminal in raw mode. */
void machine_print(const struct machine *machine,
		   void (*print)(const struct machine *machine, FILE *to));

/* First of all, and at the end. 0 or -errno; logs. */
int machine_timeline_open(struct machine *machine);
void machine_timeline_close(struct machine *machine);
/* Ask all that is on the board, whose vCPUs are stopped; and show it once the board is gone. */
void machine_timeline_gather(struct machine *machine);
void machine_timeline_show(struct machine *machine);

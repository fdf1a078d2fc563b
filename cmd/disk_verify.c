/* SPDX-License-Identifier: MIT */
/* `minivmm disk verify` */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

#include "block/verify.h"
#include "cmd/command.h"
#include "cmd/disk.h"
#include "util/loop.h"

static const char help[] =
	"Usage: minivmm disk verify FILE\n"
	"Read a qcow2 image with two engines, minivmm's own and libqcow, and name every\n"
	"cluster on which they differ: where it is in the disk, what kind of cluster it is,\n"
	"and whether the reason is a known fault of libqcow's. Nothing is written. Clusters\n"
	"of a backing file are not read: verify that file by itself.\n"
	"\n"
	"Exit status: 0 no difference, 1 it could not be done, 2 differences without a known\n"
	"reason, 3 differences with known reasons and no others.\n";

enum verify_exit {
	VERIFY_SAME = 0,
	VERIFY_FAILED = 1, /* bad usage as well */
	VERIFY_UNEXPLAINED = 2,
	VERIFY_KNOWN = 3,
};

static const struct option options[] = {
	COMMAND_OPTIONS_END,
};

/* Findings of one sort that follow each other make one line. */
struct run {
	struct verify_finding first;
	uint64_t end, clusters;
};

static void print_run(const struct run *run)
{
	const struct verify_finding *f = &run->first;

	if (!run->clusters)
		return;
	printf("0x%" PRIx64 "-0x%" PRIx64 " (%" PRIu64 " %s cluster%s): ", f->offset_bytes,
	       run->end - 1, run->clusters, verify_kind_name(f->kind),
	       run->clusters == 1 ? "" : "s");
	switch (f->what) {
	case VERIFY_DIFFERENT:
		printf("different from byte 0x%" PRIx64 " on", f->offset_bytes + f->first_bytes);
		break;
	case VERIFY_OURS_FAILS:
		printf("only libqcow reads it (minivmm finds it damaged)");
		break;
	case VERIFY_THEIRS_FAILS:
		printf("only minivmm reads it");
		break;
	case VERIFY_THEIRS_DIES:
		printf("libqcow dies of it");
		break;
	case VERIFY_BOTH_FAIL:
		printf("damaged, neither reads it");
		break;
	}
	printf("; %s\n", f->known ? verify_known(f->kind) : "no known reason");
}

static void found(void *arg, const struct verify_finding *f)
{
	struct run *run = arg;

	if (!run->clusters || run->end != f->offset_bytes || run->first.kind != f->kind ||
	    run->first.what != f->what || run->first.known != f->known) {
		print_run(run);
		*run = (struct run){.first = *f};
	}
	run->end = f->offset_bytes + f->len_bytes;
	run->clusters++;
}

static int print_report(const struct verify_report *r)
{
	printf("%" PRIu64 " clusters of %" PRIu64 " bytes: %" PRIu64 " the same", r->clusters,
	       r->cluster_bytes, r->same);
	if (r->known)
		printf(", %" PRIu64 " differ for known reasons", r->known);
	if (r->unexplained)
		printf(", %" PRIu64 " differ without a known reason", r->unexplained);
	if (r->below)
		printf(", %" PRIu64 " left to the backing file", r->below);
	printf("\n");
	if (r->unexplained)
		return VERIFY_UNEXPLAINED;
	return r->known ? VERIFY_KNOWN : VERIFY_SAME;
}

static int verify(const char *path)
{
	struct verify_report report;
	struct run run = {0};
	struct verify_options opts = {.path = path, .found = found, .arg = &run};
	int r = loop_create("disk", &opts.loop);

	if (r < 0)
		return VERIFY_FAILED;
	r = verify_image(&opts, &report);
	print_run(&run);
	loop_destroy(opts.loop);
	return r < 0 ? VERIFY_FAILED : print_report(&report);
}

int disk_verify(int argc, char **argv)
{
	int option, status;

	while ((option = command_getopt(argc, argv, ":h", options, help)) != -1) {
		if (option == '?')
			return VERIFY_FAILED;
	}
	if (command_operands("a file's name", argc, argv, 1, 1) < 0)
		return VERIFY_FAILED;
	status = verify(argv[optind]);
	return command_flush() < 0 ? VERIFY_FAILED : status;
}

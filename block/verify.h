/* SPDX-License-Identifier: MIT */
/* A qcow2 image read by two engines, ours and libqcow's, and where they differ. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct loop;

/* What we say a cluster is. */
enum verify_kind {
	VERIFY_UNALLOCATED,
	VERIFY_DATA,
	VERIFY_ZERO,
	VERIFY_COMPRESSED,
};

enum verify_what {
	VERIFY_DIFFERENT,
	VERIFY_OURS_FAILS,   /* libqcow reads it */
	VERIFY_THEIRS_FAILS, /* we do */
	VERIFY_THEIRS_DIES,  /* or hangs */
	VERIFY_BOTH_FAIL,
};

struct verify_finding {
	uint64_t offset_bytes; /* of the cluster, in the disk */
	uint64_t len_bytes;    /* of it that the disk has */
	uint64_t first_bytes;  /* VERIFY_DIFFERENT: where in it they begin to differ */
	enum verify_kind kind;
	enum verify_what what;
	bool known; /* a fault of libqcow's that we know: see verify_known */
};

struct verify_report {
	uint64_t clusters, cluster_bytes;
	uint64_t same;
	uint64_t below;       /* in the backing file, hence not read */
	uint64_t known;       /* findings */
	uint64_t unexplained;
};

struct verify_options {
	const char *path;
	const char *reader_program; /* see struct blk_options */
	struct loop *loop;          /* not running */
	void (*found)(void *arg, const struct verify_finding *finding);
	void *arg;
};

/* Read all of the image twice. 0, or -errno where that could not be done; logs. */
int verify_image(const struct verify_options *opts, struct verify_report *report);

const char *verify_kind_name(enum verify_kind kind);
/* Why a finding of this kind is `known`. */
const char *verify_known(enum verify_kind kind);

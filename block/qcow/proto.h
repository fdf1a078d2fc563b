/* SPDX-License-Identifier: MIT */
/*
 * What minivmm and minivmm-qcow, the child that runs libqcow, say to each other: a packet each,
 * in the machine's byte order, on a SOCK_SEQPACKET socket. The child says READY from inside its
 * sandbox, before it touched the image. Then it answers one request after the other: OPEN, once,
 * and READs, whose data it leaves at the start of the memory that both have mapped.
 *
 * Neither side trusts the other: a packet becomes a struct by the functions below or not at all.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The child's file descriptors */
#define QCOW_FD_IMAGE 3  /* readable */
#define QCOW_FD_SOCKET 4
#define QCOW_FD_SLOT 5   /* the memory: QCOW_SLOT_BYTES */
#define QCOW_FD_END 6

#define QCOW_SLOT_BYTES (2u << 20) /* no cluster is larger */
#define QCOW_KEY_BYTES 16u
#define QCOW_DISK_MAX (1ull << 46)

enum qcow_op {
	QCOW_READY = 0x71637731, /* changes when this file does: both are of one build */
	QCOW_OPEN,
	QCOW_READ,
};

enum qcow_sandbox {
	QCOW_SANDBOX_SECCOMP = 1,
	QCOW_SANDBOX_LANDLOCK = 2,
};

enum qcow_open_flags {
	QCOW_OPEN_KEY = 1,   /* there is one */
	QCOW_OPEN_ALONE = 2, /* as if the image named no backing file */
};

struct qcow_request {
	uint32_t op;
	uint32_t id;
	uint64_t offset_bytes;       /* READ */
	uint32_t len_bytes;          /* READ: 1 to QCOW_SLOT_BYTES */
	uint32_t flags;              /* OPEN: enum qcow_open_flags */
	uint8_t key[QCOW_KEY_BYTES]; /* OPEN */
};

struct qcow_reply {
	uint32_t op;         /* the request's */
	uint32_t id;         /* the request's */
	uint32_t failed;     /* 0 or 1 */
	uint32_t len_bytes;  /* READ */
	uint64_t size_bytes; /* OPEN: of the disk */
	uint32_t version;    /* OPEN: of the format */
	uint32_t encrypted;  /* OPEN: 0 or 1 (AES) */
	uint32_t backed;     /* OPEN: 0 or 1 */
	uint32_t sandbox;    /* READY: enum qcow_sandbox */
};

/*
 * The child's side. `disk_bytes`: of the disk, or 0 where it is not open yet; reads must lie
 * inside. 0 or -EPROTO.
 */
int qcow_request_parse(const void *packet, size_t len, uint64_t disk_bytes,
		       struct qcow_request *out);

/* Our side: what `asked` may be answered by; for READY all of it but `op` is 0. 0 or -EPROTO. */
int qcow_reply_parse(const void *packet, size_t len, const struct qcow_request *asked,
		     struct qcow_reply *out);

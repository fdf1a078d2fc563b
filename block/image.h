/* SPDX-License-Identifier: MIT */
/* A disk image as a file to be examined: what its header says, and its bytes. No guest uses it. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "block/qcow2/format.h"

struct image {
	const char *name; /* the caller's; for messages */
	int fd;
	uint64_t file_bytes;
	uint64_t disk_bytes;     /* that the file takes on its file system */
	const char *looks_like;  /* a format's name, or NULL: raw */
	struct q2_header header; /* of a qcow2 image; else all zeroes */
};

/* Open for reading, or for writing as well; no locks. 0 or -errno; logs. */
int image_open(const char *path, bool writable, struct image *out);
void image_close(struct image *img);
/* The same for an open file, which stays the caller's. */
int image_from_fd(int fd, const char *name, struct image *out);

/*
 * Why the block layer would not open it, by its header: 0, or the error and the reason. Only for
 * qcow2 images.
 */
int image_judge(struct image *img, bool readonly, struct q2_refusal *why);

/* `len` bytes at `offset`; zeroes past the end. 0 or -errno. */
int image_read(const struct image *img, void *buf, uint64_t len, uint64_t offset);
/* Where the next byte is that is not in a hole, from `offset` on; `end` if there is none before. */
uint64_t image_next_data(const struct image *img, uint64_t offset, uint64_t end);

/* Whether another process has it open, by its locks: for writing, or at all. */
enum image_use {
	IMAGE_UNUSED,
	IMAGE_READ,
	IMAGE_WRITTEN,
};
enum image_use image_use(const struct image *img);

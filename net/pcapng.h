/* SPDX-License-Identifier: MIT */
/*
 * The pcapng format (draft-ietf-opsawg-pcapng), as far as one writes it: one section, in this
 * machine's byte order, of one Ethernet interface, with times in nanoseconds.
 *
 * Each function writes one or more whole blocks, and returns how many bytes they have.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* At the beginning of every file, whatever its byte order. */
#define PCAPNG_MAGIC 0x0a0d0d0au

struct pcapng_frame {
	const uint8_t *data;
	uint32_t len;      /* of data, at least 14 if there is a tag */
	uint32_t wire_len; /* that the frame had */
	uint64_t time_ns;  /* since 1970 */
	bool outbound;     /* sent by the interface, else received */
	bool tagged;       /* a VLAN tag, kept beside the frame: */
	uint16_t tpid, tci;
};

struct pcapng_counts {
	uint64_t received; /* with those dropped */
	uint64_t dropped;
};

#define PCAPNG_HEADER_MAX 128u
#define PCAPNG_COUNTS_BYTES 64u
/* What a frame has besides its data. */
#define PCAPNG_FRAME_EXTRA_MAX 56u

/* `name` has at most 15 bytes. */
size_t pcapng_put_header(uint8_t *out, const char *name);
size_t pcapng_put_frame(uint8_t *out, const struct pcapng_frame *frame);
size_t pcapng_put_counts(uint8_t *out, const struct pcapng_counts *counts, uint64_t time_ns);

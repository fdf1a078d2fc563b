/* SPDX-License-Identifier: MIT */
/* Section and option numbers are the draft's (draft-ietf-opsawg-pcapng-03). */
#include "net/pcapng.h"

#include <string.h>

#include "util/util.h"

#define BLOCK_INTERFACE 1u   /* 4.2 */
#define BLOCK_STATISTICS 5u  /* 4.6 */
#define BLOCK_PACKET 6u      /* 4.3 */
#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define LENGTH_UNKNOWN UINT64_MAX
#define LINKTYPE_ETHERNET 1u
#define SNAPLEN 262144u /* as tcpdump's: more than any frame */

#define OPTION_END 0u
#define SECTION_APPLICATION 4u
#define INTERFACE_NAME 2u
#define INTERFACE_RESOLUTION 9u
#define PACKET_FLAGS 2u
#define STATISTICS_RECEIVED 4u
#define STATISTICS_DROPPED 5u

#define FLAG_INBOUND 1u
#define FLAG_OUTBOUND 2u

#define ADDRS_BYTES 12u
#define TAG_BYTES 4u

struct block {
	uint8_t *start, *end;
};

static void put(struct block *block, const void *data, size_t len)
{
	memcpy(block->end, data, len);
	block->end += len;
}

static void put16(struct block *block, uint16_t value)
{
	put(block, &value, sizeof(value));
}

static void put32(struct block *block, uint32_t value)
{
	put(block, &value, sizeof(value));
}

/* High half first, in either byte order. */
static void put_time(struct block *block, uint64_t time_ns)
{
	put32(block, (uint32_t)(time_ns >> 32));
	put32(block, (uint32_t)time_ns);
}

static void pad(struct block *block)
{
	while ((size_t)(block->end - block->start) % 4)
		*block->end++ = 0;
}

static void put_option(struct block *block, uint16_t code, const void *data, uint16_t len)
{
	put16(block, code);
	put16(block, len);
	put(block, data, len);
	pad(block);
}

static struct block begin(uint8_t *out, uint32_t type)
{
	struct block block = { out, out };

	put32(&block, type);
	put32(&block, 0); /* its length, in the end */
	return block;
}

/* With options. */
static size_t end(struct block *block)
{
	uint32_t len;

	put32(block, OPTION_END);
	len = (uint32_t)(block->end - block->start) + 4;
	put32(block, len);
	memcpy(block->start + 4, &len, sizeof(len));
	return len;
}

size_t pcapng_put_header(uint8_t *out, const char *name)
{
	static const uint8_t nanoseconds = 9; /* 10 to the minus 9th */
	static const uint64_t length = LENGTH_UNKNOWN;
	struct block block = begin(out, PCAPNG_MAGIC);
	size_t len;

	put32(&block, BYTE_ORDER_MAGIC);
	put16(&block, 1); /* version 1.0 */
	put16(&block, 0);
	put(&block, &length, sizeof(length));
	put_option(&block, SECTION_APPLICATION, "minivmm", strlen("minivmm"));
	len = end(&block);

	block = begin(out + len, BLOCK_INTERFACE);
	put16(&block, LINKTYPE_ETHERNET);
	put16(&block, 0);
	put32(&block, SNAPLEN);
	put_option(&block, INTERFACE_NAME, name, (uint16_t)strlen(name));
	put_option(&block, INTERFACE_RESOLUTION, &nanoseconds, 1);
	return len + end(&block);
}

static void put_tag(struct block *block, const struct pcapng_frame *frame)
{
	const uint8_t tag[TAG_BYTES] = { (uint8_t)(frame->tpid >> 8), (uint8_t)frame->tpid,
					 (uint8_t)(frame->tci >> 8), (uint8_t)frame->tci };

	put(block, frame->data, ADDRS_BYTES);
	put(block, tag, TAG_BYTES);
	put(block, frame->data + ADDRS_BYTES, frame->len - ADDRS_BYTES);
}

size_t pcapng_put_frame(uint8_t *out, const struct pcapng_frame *frame)
{
	uint32_t flags = frame->outbound ? FLAG_OUTBOUND : FLAG_INBOUND;
	uint32_t tag = frame->tagged ? TAG_BYTES : 0;
	struct block block = begin(out, BLOCK_PACKET);

	put32(&block, 0); /* the first interface */
	put_time(&block, frame->time_ns);
	put32(&block, frame->len + tag);
	put32(&block, frame->wire_len + tag);
	if (tag)
		put_tag(&block, frame);
	else
		put(&block, frame->data, frame->len);
	pad(&block);
	put_option(&block, PACKET_FLAGS, &flags, sizeof(flags));
	return end(&block);
}

size_t pcapng_put_counts(uint8_t *out, const struct pcapng_counts *counts, uint64_t time_ns)
{
	struct block block = begin(out, BLOCK_STATISTICS);

	put32(&block, 0);
	put_time(&block, time_ns);
	put_option(&block, STATISTICS_RECEIVED, &counts->received, sizeof(counts->received));
	put_option(&block, STATISTICS_DROPPED, &counts->dropped, sizeof(counts->dropped));
	return end(&block);
}

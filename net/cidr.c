/* SPDX-License-Identifier: MIT */
#include "net/cidr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "util/util.h"

/* A /31 has no room for a guest beside the bridge; nobody has more than a /8. */
#define PREFIX_MIN 8
#define PREFIX_MAX 30

int cidr_parse(const char *text, struct cidr *out)
{
	const char *slash = strchr(text, '/');
	char addr[INET_ADDRSTRLEN];
	struct in_addr in;
	uint64_t prefix;

	if (!slash || (size_t)(slash - text) >= sizeof(addr) || strlen(slash + 1) > 2 ||
	    parse_uint(slash + 1, 0, 32, &prefix) < 0)
		return -EINVAL;
	memcpy(addr, text, (size_t)(slash - text));
	addr[slash - text] = 0;
	if (inet_pton(AF_INET, addr, &in) != 1)
		return -EINVAL;
	out->addr = ntohl(in.s_addr);
	out->prefix = (unsigned int)prefix;
	return 0;
}

void cidr_format_addr(uint32_t addr, char text[CIDR_TEXT_BYTES])
{
	snprintf(text, CIDR_TEXT_BYTES, "%u.%u.%u.%u", addr >> 24, addr >> 16 & 0xff,
		 addr >> 8 & 0xff, addr & 0xff);
}

void cidr_format(const struct cidr *cidr, char text[CIDR_TEXT_BYTES])
{
	size_t len;

	cidr_format_addr(cidr->addr, text);
	len = strlen(text);
	snprintf(text + len, CIDR_TEXT_BYTES - len, "/%u", cidr->prefix);
}

uint32_t cidr_mask(const struct cidr *cidr)
{
	return cidr->prefix ? UINT32_MAX << (32 - cidr->prefix) : 0;
}

uint32_t cidr_first(const struct cidr *cidr)
{
	return cidr->addr & cidr_mask(cidr);
}

uint32_t cidr_last(const struct cidr *cidr)
{
	return cidr->addr | ~cidr_mask(cidr);
}

bool cidr_equal(const struct cidr *a, const struct cidr *b)
{
	return a->addr == b->addr && a->prefix == b->prefix;
}

bool cidr_overlap(const struct cidr *a, const struct cidr *b)
{
	return cidr_first(a) <= cidr_last(b) && cidr_first(b) <= cidr_last(a);
}

const char *cidr_unfit(const struct cidr *cidr)
{
	unsigned int top = cidr->addr >> 24;

	if (cidr->prefix < PREFIX_MIN || cidr->prefix > PREFIX_MAX)
		return "has a prefix length that is not between 8 and 30";
	if (top == 0 || top == 127 || top >= 224)
		return "is not a host's address (take one of a private network, as 10.0.0.1/24)";
	if (cidr->addr == cidr_first(cidr))
		return "is the network's own address (take one inside it, as the next)";
	if (cidr->addr == cidr_last(cidr))
		return "is the broadcast address (take one inside it, as the one before)";
	return NULL;
}

/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "net/net.h"

#define FNV64_BASIS 0xcbf29ce484222325ull
#define FNV64_PRIME 0x100000001b3ull

/* FNV-1a */
static uint64_t hash(uint64_t state, const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < len; i++)
		state = (state ^ bytes[i]) * FNV64_PRIME;
	return state;
}

/* Two hosts on one network may well have VMs of one name. */
static uint64_t hash_host(uint64_t state)
{
	char id[33];
	int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return state;
	len = read(fd, id, sizeof(id));
	close(fd);
	return len > 0 ? hash(state, id, (size_t)len) : state;
}

void net_mac_default(uint8_t mac[6], const char *vm_name, unsigned int index)
{
	uint8_t number[4] = { index & 0xff, index >> 8 & 0xff, index >> 16 & 0xff, index >> 24 };
	uint64_t state = hash_host(FNV64_BASIS);

	if (vm_name)
		state = hash(state, vm_name, strlen(vm_name) + 1);
	state = hash(state, number, sizeof(number));
	mac[0] = 0x02; /* locally administered, unicast */
	for (int i = 1; i < 6; i++)
		mac[i] = (uint8_t)((state ^ state >> 24) >> (8 * (i - 1)));
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int net_mac_parse(const char *text, uint8_t mac[6])
{
	uint8_t parsed[6], any = 0;

	for (int i = 0; i < 6; i++, text += 3) {
		int high = hex_digit(text[0]);
		int low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0 || text[2] != (i < 5 ? ':' : 0))
			return -EINVAL;
		parsed[i] = (uint8_t)(high << 4 | low);
		any |= parsed[i];
	}
	if (!any || parsed[0] & 1)
		return -EINVAL;
	memcpy(mac, parsed, sizeof(parsed));
	return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The file is a header, descriptors of one size with a name at their end, and the values. Kernels
 * add descriptors, and kinds of them, as they like: what we do not know is left out.
 */
#include "vmm/kvm_stats.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/util.h"

/* Far more than any kernel has. */
#define NAME_BYTES_MAX 256
#define DESCRIPTORS_MAX 4096
#define OFFSET_MAX (1u << 24)

static bool header_ok(const struct kvm_stats_header *header)
{
	return header->name_size && header->name_size <= NAME_BYTES_MAX &&
	       header->name_size % 8 == 0 && header->num_desc <= DESCRIPTORS_MAX &&
	       header->desc_offset <= OFFSET_MAX && header->data_offset <= OFFSET_MAX;
}

static bool is_number(const struct kvm_stats_desc *desc)
{
	uint32_t type = desc->flags & KVM_STATS_TYPE_MASK;

	return desc->size == 1 && desc->offset <= OFFSET_MAX &&
	       (type == KVM_STATS_TYPE_CUMULATIVE || type == KVM_STATS_TYPE_INSTANT ||
		type == KVM_STATS_TYPE_PEAK);
}

int kvm_stats_read(int fd, void (*fn)(void *arg, const char *name, uint64_t value), void *arg)
{
	struct kvm_stats_header header;
	size_t step;
	uint8_t *descs;
	int r = pread_full(fd, &header, sizeof(header), 0);

	if (r < 0)
		return r;
	if (!header_ok(&header))
		return -EPROTO;
	step = sizeof(struct kvm_stats_desc) + header.name_size;
	descs = malloc(header.num_desc * step + 1);
	if (!descs)
		return -ENOMEM;
	r = pread_full(fd, descs, header.num_desc * step, header.desc_offset);
	for (uint32_t i = 0; r == 0 && i < header.num_desc; i++) {
		struct kvm_stats_desc *desc = (struct kvm_stats_desc *)(descs + i * step);
		uint64_t value;

		desc->name[header.name_size - 1] = '\0';
		if (!is_number(desc))
			continue;
		r = pread_full(fd, &value, sizeof(value),
			       (uint64_t)header.data_offset + desc->offset);
		if (r == 0 && value)
			fn(arg, desc->name, value);
	}
	free(descs);
	return r;
}

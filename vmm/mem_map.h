/* SPDX-License-Identifier: MIT */
/* Inside guest RAM: where the pages of a region come from. */
#pragma once

#include "vmm/mem.h"

/* region->len_bytes of memory at an address that huge pages fit. 0 or -errno; logs. */
int mem_map(const struct mem_options *options, struct mem_region *region);
void mem_unmap(const struct mem_region *region);

/* SPDX-License-Identifier: MIT */
/* Inside guest RAM: whether the host has as much as is to be there from the beginning. */
#pragma once

#include "vmm/mem.h"

/*
 * `root` is "", or a folder in place of it. 0 or -ENOMEM; logs. What a host does not tell is no
 * reason to refuse.
 */
int mem_room_check(const struct mem_options *options, const char *root);

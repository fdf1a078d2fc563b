/* SPDX-License-Identifier: MIT */
/* What KVM itself counts (KVM_GET_STATS_FD, since Linux 5.14), as the file describes itself. */
#pragma once

#include <stdint.h>

/*
 * Call fn for each number that is not 0; KVM's histograms are left out. `fd` is from
 * KVM_GET_STATS_FD. 0, or -errno: -EPROTO where the file is not as we know it.
 */
int kvm_stats_read(int fd, void (*fn)(void *arg, const char *name, uint64_t value), void *arg);

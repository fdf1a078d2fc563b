/* SPDX-License-Identifier: MIT */
/* Further processors, and the local APIC of the one that asks, in x2APIC mode. */
#pragma once

#include <stdint.h>

/* x2APIC mode on. On the boot processor before smp_start; others come with it on. */
void apic_enable(void);
uint32_t apic_id(void);

/* Room for `n` processors in all. */
void smp_init(unsigned int n);
/* INIT and SIPI to `id`, which then runs fn and halts. Waits until fn is done. */
void smp_run(uint32_t id, void (*fn)(void));
/* The same for one that never returns. Waits until it has begun. */
void smp_launch(uint32_t id, void (*fn)(void));
/*
 * The same for fn(arg), which goes on at CPL 3 and never returns; not after the caller's own
 * become_user. Waits until it has begun.
 */
void smp_start(uint32_t id, void (*fn)(void *arg), void *arg);

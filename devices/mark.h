/* SPDX-License-Identifier: MIT */
/*
 * A port that guests write marks to, for --timeline: each write is kept with its time, up to
 * MARKS_MAX, and answered at once. Reads return what reads of no device do.
 */
#pragma once

#include <stdint.h>

#define MARKS_MAX 64

struct mark;
struct vm;

/* 0 or -errno. */
int mark_create(struct vm *vm, struct mark **out);
/* Accepts NULL. */
void mark_destroy(struct mark *mark);

/* Once the vCPUs are stopped: how many there are; and one of them, `index` below that: its byte, its time. */
unsigned int mark_count(const struct mark *mark);
uint8_t mark_get(const struct mark *mark, unsigned int index, uint64_t *ns);

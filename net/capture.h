/* SPDX-License-Identifier: MIT */
/* An interface's frames, both ways, into a pcapng file, by a thread of its own. */
#pragma once

struct capture;

/* To a FIFO, or to a file: made, or overwritten if empty or a capture. 0 or -errno; logs. */
int capture_open(const char *path, int index, const char *ifname, struct capture **out);
/* Writes what is left. Accepts NULL. */
void capture_close(struct capture *capture);

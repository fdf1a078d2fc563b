/* SPDX-License-Identifier: MIT */
/* Hearing of changes of interfaces, in the network namespace link_watch_open was called in. */
#pragma once

#include <stdbool.h>

struct mnl_socket;

/* A socket that never blocks, readable when something changed. 0 or -errno; link_disconnect. */
int link_watch_open(struct mnl_socket **out);
int link_watch_fd(const struct mnl_socket *watch);
/* Read some of what it has to say. True: this interface has changed, or may have. */
bool link_watch_read(struct mnl_socket *watch, int index);

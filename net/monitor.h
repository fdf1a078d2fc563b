/* SPDX-License-Identifier: MIT */
/* The interface that copies of a NIC's frames go to: found, or made for as long as it is used. */
#pragma once

struct mnl_socket;

struct monitor {
	int index;
	int fd; /* what holds it, or -1: it was there before */
};

/* 0, or -errno and nothing to close; logs. */
int monitor_open(struct mnl_socket *nl, const char *name, struct monitor *out);
/* No more copies are sent there. */
void monitor_close(struct monitor *monitor);

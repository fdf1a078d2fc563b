/* SPDX-License-Identifier: MIT */
/* A NIC without a guest, and who listens or sends at an interface on the host's side. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "net/edge.h"
#include "net/net.h"

#define NIC_MAC "\x02\x11\x22\x33\x44\x55"
#define OTHER_MAC "\x02\x66\x77\x88\x99\xaa"
#define NIC_FRAME_MAX 70000

struct nic {
	struct net *net;
	struct edge *edge;
};

/* By name, adopted if it is there; both opens. What they return that failed; then none is open. */
int nic_try(const char *tap, const char *bridge, const struct edge_options *opts,
	    struct nic *out);
/* It must succeed. */
struct nic nic_open(const char *tap, const char *bridge, const struct edge_options *opts);
void nic_close(struct nic *nic);
/* It must fail with `error` and one line that has every one of the NULL-ended texts in it, and no
 * interface more or less is there afterwards. */
void nic_fails(const char *tap, const char *bridge, const struct edge_options *opts, int error,
	       ...);
/* One that another process has, until that is killed. */
pid_t nic_in_a_child(const char *tap, const char *bridge, const struct edge_options *opts);
/* Nothing of ours, or anybody's, is at the interface. */
bool is_bare(const char *name);

/* Not a segment to be cut, unless `mss`: then the frame is TCP over IPv4 without options. */
int nic_send(const struct nic *nic, const void *frame, size_t len, uint16_t mss);
/* The next frame within 1 s, or less; its length, or 0. */
size_t nic_recv(const struct nic *nic, void *frame, int timeout_ms);

/* A packet socket that hears and sends at interface `name`. */
int wire_open(const char *name);
/* As nic_recv; a VLAN tag is where it belongs. */
size_t wire_recv(int fd, void *frame, int timeout_ms);
int wire_send(int fd, const void *frame, size_t len, uint16_t mss);

/* A broadcast frame of `len` bytes, from `src`; `tag` or no VLAN. */
#define FRAME_TYPE 0x88b5 /* local experimental */
void make_frame(uint8_t *frame, size_t len, const char *src, uint16_t tag);
/* Up to 64 KiB, to be cut at `mss`. */
void make_tcp(uint8_t *frame, size_t len, const char *src);

/* Wait for this very frame, past all others, up to 1 s. */
bool nic_gets(const struct nic *nic, const void *frame, size_t len);
bool wire_gets(int fd, const void *frame, size_t len);
/* What has come till now is none of anybody's business. */
void wire_forget(int fd);

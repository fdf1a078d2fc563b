/* SPDX-License-Identifier: MIT */
/* /dev/vhost-net, by which the kernel moves a TAP's frames; inside net/ only. */
#pragma once

#include "net/net.h"

/*
 * Open it for each queue of `net`, as `mode` says. 0: net->vhost says whether; -errno where it had
 * to be; logs.
 */
int vhost_open(struct net *net, enum net_vhost mode);
void vhost_close(struct net *net);

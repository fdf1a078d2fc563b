/* SPDX-License-Identifier: MIT */
/* The sandbox of minivmm-qcow. */
#pragma once

/*
 * For good: no other files, processes, sockets or privileges, little memory, an end with the
 * parent. What is left are the fds of proto.h, and memory. Everything else ends the process
 * (SIGSYS). Returns enum qcow_sandbox, or -errno where there is no seccomp.
 */
int sandbox_enter(void);

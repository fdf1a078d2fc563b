/* SPDX-License-Identifier: MIT */
/*
 * One-line messages on stderr, "minivmm: " in front of each.
 *
 * A failure the user must read is logged once, by the function that knows the name of the
 * thing; it names the thing, the reason and the remedy. Callers then pass -errno up silently.
 */
#pragma once

#include <stdatomic.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARN,
	LOG_LEVEL_INFO, /* the default */
	LOG_LEVEL_DEBUG,
};

/* A budget for messages a guest can provoke. Zero-initialised; one per message kind and device. */
struct log_limit {
	atomic_uint used;
};

/* The log level is the library's only global state. */
void log_set_level(enum log_level level);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* A warning provoked by the guest: after LOG_GUEST_MAX lines `limit` falls silent, saying so. */
#define LOG_GUEST_MAX 5
void log_guest(struct log_limit *limit, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

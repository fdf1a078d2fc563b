/* SPDX-License-Identifier: MIT */
#include "util/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic enum log_level log_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
	atomic_store_explicit(&log_level, level, memory_order_relaxed);
}

/* One write per line, so that threads do not mix. Control bytes from names are shown as '?'. */
static void write_line(const char *fmt, va_list args)
{
	char text[1024], line[1100];
	bool tty = isatty(STDERR_FILENO);
	int len;

	if (vsnprintf(text, sizeof(text), fmt, args) < 0)
		return;
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	/* A terminal may be in raw mode, with the guest's cursor anywhere. */
	len = snprintf(line, sizeof(line), "%sminivmm: %s%s", tty ? "\r" : "", text,
		       tty ? "\r\n" : "\n");
	if (write(STDERR_FILENO, line, (size_t)len) < 0)
		return; /* nowhere left to say so */
}

/* Keeps errno: callers log first, then return it. */
static void log_line(enum log_level level, const char *fmt, va_list args)
{
	int saved = errno;

	if (level > atomic_load_explicit(&log_level, memory_order_relaxed))
		return;
	write_line(fmt, args);
	errno = saved;
}

#define LOG_FUNCTION(name, level)                                                                  \
	void name(const char *fmt, ...)                                                            \
	{                                                                                          \
		va_list args;                                                                      \
                                                                                                   \
		va_start(args, fmt);                                                               \
		log_line(level, fmt, args);                                                        \
		va_end(args);                                                                      \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warn, LOG_LEVEL_WARN)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

void log_guest(struct log_limit *limit, const char *fmt, ...)
{
	unsigned int used = atomic_load_explicit(&limit->used, memory_order_relaxed);
	va_list args;

	/* The count saturates: it must not wrap around and speak again. */
	if (used >= LOG_GUEST_MAX)
		return;
	used = atomic_fetch_add_explicit(&limit->used, 1, memory_order_relaxed);
	if (used >= LOG_GUEST_MAX)
		return;
	va_start(args, fmt);
	log_line(LOG_LEVEL_WARN, fmt, args);
	va_end(args);
	if (used == LOG_GUEST_MAX - 1)
		log_warn("the guest goes on provoking this; no more will be said about it");
}

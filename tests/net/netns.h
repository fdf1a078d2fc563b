/* SPDX-License-Identifier: MIT */
/* A network namespace per test, what is in it, and what the code under test said on stderr. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <sys/types.h>

#define BRIDGE_UP "ip link add br0 type bridge && ip link set br0 up"

/* That there can be no test here; prints why. */
bool netns_skip(void);
/* Nor without filters of tc, as net/tc.c makes them. */
bool netns_skip_tc(void);
/* cmocka setup: a fresh, empty namespace with a running loopback. */
int netns_enter(void **state);
/* Run a shell command; true if it succeeded. */
bool netns_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* It prints something that fits the pattern, of grep. */
bool netns_shows(const char *command, const char *pattern);
bool exists(const char *name);
unsigned int count_links(void);
/* And wait until it is gone. */
void kill_child(pid_t pid);

/* Between the two, stderr is caught. The text is static, until the next stderr_end. */
void stderr_begin(void);
const char *stderr_end(void);
/* `said` is one line, and has every one of the NULL-ended texts in it. */
void assert_one_line(const char *said, va_list texts);

/* Give CAP_NET_ADMIN up for the rest of this process. */
void drop_net_admin(void);

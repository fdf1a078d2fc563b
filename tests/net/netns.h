/* SPDX-License-Identifier: MIT */
/* A network namespace per test, and what the code under test said on stderr. */
#pragma once

#include <stdbool.h>

/* That there can be no test here; prints why. */
bool netns_skip(void);
/* Nor without filters of tc, as net/tc.c makes them. */
bool netns_skip_tc(void);
/* cmocka setup: a fresh, empty namespace with a running loopback. */
int netns_enter(void **state);
/* Run a shell command; true if it succeeded. */
bool netns_run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Between the two, stderr is caught. The text is static, until the next stderr_end. */
void stderr_begin(void);
const char *stderr_end(void);

/* Give CAP_NET_ADMIN up for the rest of this process. */
void drop_net_admin(void);

/* SPDX-License-Identifier: MIT */
/* A file handed to whoever is at the other end of a UNIX socket: unix(7), SCM_RIGHTS. */
#pragma once

/* With a byte of zero; never waits. The file stays the caller's. 0 or -errno; does not log. */
int pass_fd(int socket, int fd);

/*
 * What pass_fd() sent, the caller's now, closed on exec. Waits as long as the socket does. -errno:
 * -EPROTO, something else came; nothing of that is left open. Does not log.
 */
int receive_fd(int socket);

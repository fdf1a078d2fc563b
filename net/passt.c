/* SPDX-License-Identifier: MIT */
/*
 * passt as a process: its command line, its start, its messages and its end.
 *
 * It is handed one end of a pair of sockets (--fd), and ends when the other is closed: we need
 * not live to see to that. PR_SET_PDEATHSIG would not do: passt drops rights as it starts, and
 * the kernel forgets the signal then. That it is ready it tells by its PID file, for which it
 * gets a pipe. As root it becomes nobody by itself.
 *
 * Its messages go to a pipe that nobody empties while it runs, so its end of it does not block:
 * they are few (--quiet), and wanted only where it fails.
 */
#include "net/passt.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/log.h"
#include "util/program.h"
#include "util/util.h"

#define START_MS 30000 /* a busy machine, a cold cache */
#define END_MS 1000
#define SOCKET_BYTES (4 << 20) /* a TCP window; more would only be latency */

/* What the child has open beside /dev/null, in the order of its numbers. */
enum {
	CHILD_STDERR = 2,
	CHILD_SOCKET,
	CHILD_READY,
	CHILD_FDS,
};

struct passt {
	pid_t pid; /* 0: ended, and waited for */
	int status;
	int messages; /* its stderr */
};

/* --- messages --- */

/* Not an empty line, nor its complaint where there is no system log. */
static bool worth_telling(const char *line)
{
	return *line && !(strncmp(line, "Failed to send ", 15) == 0 && strstr(line, " to syslog"));
}

static void take_line(char *line, char *last, size_t size)
{
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f)
			*c = '?';
	if (!worth_telling(line))
		return;
	log_debug("passt: %s", line);
	snprintf(last, size, "%s", line);
}

/* All that it said and nobody read; the last line stays in `last`, "" if there is none. */
static void read_messages(struct passt *passt, char *last, size_t size)
{
	char line[160];
	size_t len = 0;
	char c;

	last[0] = 0;
	while (read(passt->messages, &c, 1) == 1) {
		if (c != '\n') {
			if (len < sizeof(line) - 1)
				line[len++] = c;
			continue;
		}
		line[len] = 0;
		take_line(line, last, size);
		len = 0;
	}
	line[len] = 0;
	take_line(line, last, size);
}

/* --- the command line --- */

struct command {
	char specs[NET_FORWARDS_MAX][64];
	const char *argv[16 + 2 * NET_FORWARDS_MAX];
};

static void make_command(const struct net_options *opts, struct command *command)
{
	static const char *const fixed[] = { "passt", "--foreground", "--quiet", "--fd", "3",
					     "--pid", "/proc/self/fd/4", "--mtu", "16384" };
	const char **arg = mempcpy(command->argv, fixed, sizeof(fixed));

	_Static_assert(CHILD_SOCKET == 3 && CHILD_READY == 4 && PASST_MTU == 16384, "as in fixed");
	for (unsigned int i = 0; i < opts->forward_count; i++) {
		const struct net_forward *f = &opts->forwards[i];

		snprintf(command->specs[i], sizeof(command->specs[i]), "%s%s%u:%u", f->host_addr,
			 f->host_addr[0] ? "/" : "", f->host_port, f->guest_port);
		*arg++ = f->udp ? "--udp-ports" : "--tcp-ports";
		*arg++ = command->specs[i];
	}
	*arg = NULL;
}

/* --- starting --- */

static int spawn(struct passt *passt, const struct command *command, int messages, int socket,
		 int ready)
{
	const struct program_start start = {
		.path = command->argv[0],
		.argv = (char *const *)command->argv,
		.envp = environ,
		.first_fd = CHILD_STDERR,
		.fd_count = CHILD_FDS - CHILD_STDERR,
		.fds = { messages, socket, ready },
	};

	return program_spawn(&start, &passt->pid);
}

static void close_pair(const int *fds)
{
	for (int i = 0; i < 2; i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

/* [0] is ours, [1] the child's; -1 until made. */
struct ends {
	int messages[2], socket[2], ready[2];
};

/*
 * passt drops what its end has no room for, and sends it again only when a timer has run out. The
 * kernel gives as much as it allows (net.core.wmem_max). Our end needs no more than it has: we
 * can wait.
 */
static void make_room(int socket)
{
	int bytes = SOCKET_BYTES;

	setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static int make_ends(struct ends *ends)
{
	if (pipe2(ends->messages, O_CLOEXEC | O_NONBLOCK) < 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends->socket) < 0 ||
	    pipe2(ends->ready, O_CLOEXEC) < 0)
		return -errno;
	make_room(ends->socket[1]);
	/* It opens this by name, and may be nobody by then. */
	return fchmod(ends->ready[1], 0622) < 0 ? -errno : 0;
}

static int fail_to_start(int err)
{
	if (err == -ENOENT)
		log_error("net: user: passt, which it needs, is not installed (apt install passt)");
	else
		log_error("net: user: passt cannot be started: %s%s", strerror(-err),
			  fd_remedy(-err));
	return err;
}

/* What a listener would be told now: 0 or -errno. */
static int try_to_bind(const struct net_forward *f)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(f->host_port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(f->host_port) };
	bool is_v6 = inet_pton(AF_INET6, f->host_addr, &v6.sin6_addr) == 1;
	int one = 1, r = 0;
	int fd = socket(is_v6 ? AF_INET6 : AF_INET,
			(f->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	inet_pton(AF_INET, f->host_addr, &v4.sin_addr);
	if (!f->udp)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (is_v6 ? bind(fd, (struct sockaddr *)&v6, sizeof(v6)) :
		    bind(fd, (struct sockaddr *)&v4, sizeof(v4)))
		r = -errno;
	close(fd);
	return r;
}

/* passt names its own options when it could not listen. True if that was it; logs then. */
static bool blame_forward(const struct net_options *opts)
{
	for (unsigned int i = 0; i < opts->forward_count; i++) {
		const struct net_forward *f = &opts->forwards[i];
		int r = try_to_bind(f);

		if (!r)
			continue;
		log_error("net: hostfwd=%s:%s%s%u:%u: cannot listen on the host's port: %s (%s)",
			  f->udp ? "udp" : "tcp", f->host_addr, f->host_addr[0] ? ":" : "",
			  f->host_port, f->guest_port, strerror(-r),
			  r == -EACCES ? "name one from 1024 on" :
			  r == -EADDRNOTAVAIL ? "name an address of this host" :
					  "name another, or end who has it");
		return true;
	}
	return false;
}

/* It writes there once it is ready, unless it ends before. */
static int wait_ready(struct passt *passt, int ready, const struct net_options *opts)
{
	struct pollfd pfd = { .fd = ready, .events = POLLIN };
	char byte, last[160], why[256];
	int n;

	do {
		n = poll(&pfd, 1, START_MS);
	} while (n < 0 && errno == EINTR);
	if (n == 1 && read(ready, &byte, 1) == 1) {
		read_messages(passt, last, sizeof(last));
		return 0;
	}
	passt_end(passt, why, sizeof(why));
	if (n == 0)
		log_error("net: user: passt did not get ready within %d s", START_MS / 1000);
	else if (!blame_forward(opts))
		log_error("net: user: %s", why);
	return -ECHILD;
}

static int start(struct passt *passt, const struct net_options *opts, struct ends *ends)
{
	struct command command;
	int r = make_ends(ends);

	if (r < 0)
		return fail_to_start(r);
	make_command(opts, &command);
	r = spawn(passt, &command, ends->messages[1], ends->socket[1], ends->ready[1]);
	if (r < 0)
		return fail_to_start(r);
	close(ends->socket[1]);
	close(ends->ready[1]);
	close(ends->messages[1]);
	ends->socket[1] = ends->ready[1] = ends->messages[1] = -1;
	passt->messages = ends->messages[0];
	ends->messages[0] = -1;
	return wait_ready(passt, ends->ready[0], opts);
}

int passt_start(const struct net_options *opts, struct passt **out, int *socket)
{
	struct ends ends = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	struct passt *passt = calloc(1, sizeof(*passt));
	int r;

	if (!passt)
		return -ENOMEM;
	passt->messages = -1;
	r = start(passt, opts, &ends);
	if (r == 0) {
		*out = passt;
		*socket = ends.socket[0];
		ends.socket[0] = -1;
	}
	close_pair(ends.messages);
	close_pair(ends.socket);
	close_pair(ends.ready);
	if (r)
		passt_destroy(passt);
	return r;
}

/* --- ending --- */

/* A process that closed its socket is about to end; one that is not, is made to. */
static void reap(struct passt *passt)
{
	struct pollfd pfd = { .events = POLLIN };

	if (!passt->pid)
		return;
	pfd.fd = pidfd_open(passt->pid, 0);
	if (pfd.fd < 0 || poll(&pfd, 1, END_MS) != 1)
		kill(passt->pid, SIGKILL);
	if (pfd.fd >= 0)
		close(pfd.fd);
	while (waitpid(passt->pid, &passt->status, 0) < 0 && errno == EINTR)
		;
	passt->pid = 0;
}

void passt_end(struct passt *passt, char *why, size_t size)
{
	char last[160];

	reap(passt);
	read_messages(passt, last, sizeof(last));
	if (WIFSIGNALED(passt->status))
		snprintf(why, size, "passt was killed by signal %d", WTERMSIG(passt->status));
	else
		snprintf(why, size, "passt ended with status %d%s%s", WEXITSTATUS(passt->status),
			 last[0] ? ": " : " and said nothing", last);
}

void passt_destroy(struct passt *passt)
{
	if (!passt)
		return;
	reap(passt);
	if (passt->messages >= 0)
		close(passt->messages);
	free(passt);
}

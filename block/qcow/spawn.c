/* SPDX-License-Identifier: MIT */
#include "block/qcow/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/log.h"
#include "util/program.h"
#include "util/util.h"

#define PROGRAM "minivmm-qcow"
#define FD_HIGH 16 /* out of the way of the child's */

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* --- starting --- */

/* The memory for data: nobody can change its size, so ours is always there. 0 or -errno. */
static int make_slot(struct qcow_process *p, int *out)
{
	int fd = memfd_create(PROGRAM, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *slot;
	int r;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, QCOW_SLOT_BYTES) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto err_close;
	slot = mmap(NULL, QCOW_SLOT_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	if (slot == MAP_FAILED)
		goto err_close;
	p->slot = slot;
	*out = fd;
	return 0;

err_close:
	r = -errno;
	close(fd);
	return r;
}

/* What the child gets: the three fds, nothing on the others, no terminal, no signal set aside. */
static int prepare(posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr, const int *fds)
{
	sigset_t none, all;
	int r = 0;

	sigemptyset(&none);
	sigfillset(&all);
	for (int fd = 0; fd < QCOW_FD_IMAGE && !r; fd++)
		r = posix_spawn_file_actions_addopen(actions, fd, "/dev/null", O_RDWR, 0);
	for (int i = 0; i < 3 && !r; i++)
		r = posix_spawn_file_actions_adddup2(actions, fds[i], QCOW_FD_IMAGE + i);
	if (!r)
		r = posix_spawn_file_actions_addclosefrom_np(actions, QCOW_FD_END);
	if (!r)
		r = posix_spawnattr_setsigmask(attr, &none);
	if (!r)
		r = posix_spawnattr_setsigdefault(attr, &all);
	if (!r)
		r = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK |
					     POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	return r;
}

static int spawn(struct qcow_process *p, const char *program, const int *fds)
{
	char *argv[] = {(char *)(uintptr_t)program, NULL}, *envp[] = {NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r = posix_spawn_file_actions_init(&actions);

	if (r)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (r)
		goto out_actions;
	r = prepare(&actions, &attr, fds);
	if (!r)
		r = posix_spawn(&p->pid, program, &actions, &attr, argv, envp);
	if (r)
		p->pid = 0;
	posix_spawnattr_destroy(&attr);
out_actions:
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* In the order of the child's fds, each out of their way. 0 or -errno. */
static int raise_fds(int *fds)
{
	for (int i = 0; i < 3; i++) {
		int fd = fcntl(fds[i], F_DUPFD_CLOEXEC, FD_HIGH);

		if (fd < 0)
			return -errno;
		if (i) /* the image's stays open, it is not ours */
			close(fds[i]);
		fds[i] = fd;
	}
	return 0;
}

static int start(struct qcow_process *p, const char *program, int image_fd)
{
	int fds[3] = {image_fd, -1, -1}, ends[2];
	int r = make_slot(p, &fds[2]);

	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		r = -errno;
		close(fds[2]);
		return r;
	}
	p->socket = ends[0];
	fds[1] = ends[1];
	r = raise_fds(fds);
	if (!r)
		r = spawn(p, program, fds);
	if (fds[0] != image_fd)
		close_fd(fds[0]);
	close_fd(fds[1]);
	close_fd(fds[2]);
	return r;
}

int qcow_process_start(struct qcow_process *p, const char *program, int image_fd,
		       const char *name)
{
	char path[PATH_MAX];
	int r = 0;

	*p = (struct qcow_process){.socket = -1};
	if (!program)
		r = program_find(PROGRAM, path, sizeof(path));
	if (r < 0) {
		log_error("disk %s: " PROGRAM ", by which such images are read, is not installed "
			  "beside minivmm", name);
		return r;
	}
	program = program ? program : path;
	r = start(p, program, image_fd);
	if (r < 0) {
		log_error("disk %s: %s, by which such images are read, cannot be started: %s%s",
			  name, program, strerror(-r), fd_remedy(-r));
		qcow_process_finish(p);
	}
	return r;
}

/* --- speaking --- */

int qcow_process_send(struct qcow_process *p, const struct qcow_request *req)
{
	ssize_t n = send(p->socket, req, sizeof(*req), MSG_NOSIGNAL | MSG_DONTWAIT);

	return n < 0 ? -errno : n == sizeof(*req) ? 0 : -EIO;
}

static int wait_readable(int fd, int timeout_ms)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	int n;

	do {
		n = poll(&poll_fd, 1, timeout_ms);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n ? 0 : -ETIMEDOUT;
}

int qcow_process_hear(struct qcow_process *p, const struct qcow_request *asked, int timeout_ms,
		      struct qcow_reply *out)
{
	char packet[sizeof(*out) + 1]; /* one more: too long is seen */
	ssize_t n;
	int r = timeout_ms ? wait_readable(p->socket, timeout_ms) : 0;

	if (r < 0)
		return r;
	n = recv(p->socket, packet, sizeof(packet), MSG_DONTWAIT);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	return n ? qcow_reply_parse(packet, (size_t)n, asked, out) : -EPIPE;
}

/* --- ending --- */

int qcow_process_kill(struct qcow_process *p)
{
	int status = 0;

	if (!p->pid)
		return 0;
	kill(p->pid, SIGKILL);
	while (waitpid(p->pid, &status, 0) < 0 && errno == EINTR)
		;
	p->pid = 0;
	return status;
}

void qcow_process_finish(struct qcow_process *p)
{
	qcow_process_kill(p);
	close_fd(p->socket);
	p->socket = -1;
	if (p->slot)
		munmap((void *)(uintptr_t)p->slot, QCOW_SLOT_BYTES);
	p->slot = NULL;
}

/* SPDX-License-Identifier: MIT */
#include "block/qcow/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/log.h"
#include "util/program.h"
#include "util/util.h"

#define PROGRAM "minivmm-qcow"

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

static int spawn(struct qcow_process *p, const char *program, const int *fds)
{
	char *argv[] = {(char *)(uintptr_t)program, NULL}, *envp[] = {NULL};
	const struct program_start start = {
		.path = program,
		.argv = argv,
		.envp = envp,
		.first_fd = QCOW_FD_IMAGE,
		.fd_count = QCOW_FD_END - QCOW_FD_IMAGE,
		.fds = {fds[0], fds[1], fds[2]},
	};

	return program_spawn(&start, &p->pid);
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
	r = spawn(p, program, fds);
	close(fds[1]);
	close(fds[2]);
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

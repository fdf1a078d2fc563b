/* SPDX-License-Identifier: MIT */
/* A file goes over a socket; what else may come does not, and leaves nothing open. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/pass_fd.h"

static int pair[2];

static int setup(void **state)
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);
}

static int teardown(void **state)
{
	close(pair[0]);
	return close(pair[1]);
}

static unsigned int count_open(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}

static void test_one(void **state)
{
	int pipe_fds[2], fd;
	char byte = 'x';

	assert_int_equal(pipe(pipe_fds), 0);
	assert_int_equal(pass_fd(pair[0], pipe_fds[1]), 0);
	close(pipe_fds[1]);
	fd = receive_fd(pair[1]);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(write(fd, &byte, 1), 1);
	close(fd);
	byte = 0;
	assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
	assert_int_equal(byte, 'x');
	assert_int_equal(read(pipe_fds[0], &byte, 1), 0); /* nobody has it any more */
	close(pipe_fds[0]);
}

static void test_nothing(void **state)
{
	struct timeval patience = {.tv_usec = 1000};

	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)),
			 0);
	assert_int_equal(receive_fd(pair[1]), -EAGAIN);
	assert_int_equal(write(pair[0], "x", 1), 1);
	assert_int_equal(receive_fd(pair[1]), -EPROTO);
	shutdown(pair[0], SHUT_WR);
	assert_int_equal(receive_fd(pair[1]), -EPROTO);
	assert_int_equal(pass_fd(pair[0], STDIN_FILENO), -EPIPE);
	assert_int_equal(pass_fd(pair[1], -1), -EBADF);
}

/* Somebody who sends more than is asked for. */
static void test_many(void **state)
{
	int fds[8] = {0}, fd;
	union {
		char space[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} control = {.space = ""};
	struct iovec iov = {"x", 1};
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	unsigned int before = count_open();

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(header), fds, sizeof(fds));
	assert_int_equal(sendmsg(pair[0], &message, 0), 1);
	fd = receive_fd(pair[1]);
	if (fd >= 0)
		close(fd);
	assert_int_equal(count_open(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

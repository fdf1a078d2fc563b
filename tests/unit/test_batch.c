/* SPDX-License-Identifier: MIT */
/* util/batch: in order, up to the first that fails. */
#include "util/batch.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct test {
	struct batch *batch;
	int fds[2]; /* datagram sockets */
	int data[BATCH_MAX];
	struct iovec iov[BATCH_MAX][2];
};

static int setup(void **state)
{
	static struct test t;

	memset(&t, 0, sizeof(t));
	if (batch_create(&t.batch) < 0 ||
	    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, t.fds) < 0)
		return -1;
	*state = &t;
	return 0;
}

static int teardown(void **state)
{
	struct test *t = *state;

	batch_destroy(t->batch);
	close(t->fds[0]);
	close(t->fds[1]);
	return 0;
}

/* One that says `number`, in two pieces. */
static void add(struct test *t, unsigned int at, int fd, int number)
{
	t->data[at] = number;
	t->iov[at][0] = (struct iovec){ &t->data[at], 1 };
	t->iov[at][1] = (struct iovec){ (char *)&t->data[at] + 1, sizeof(int) - 1 };
	batch_writev(t->batch, fd, t->iov[at], 2);
}

static void gets(struct test *t, int number)
{
	int got;

	assert_int_equal(read(t->fds[1], &got, sizeof(got)), sizeof(got));
	assert_int_equal(got, number);
}

static void gets_nothing(struct test *t)
{
	int got;

	assert_int_equal(read(t->fds[1], &got, sizeof(got)), -1);
	assert_int_equal(errno, EAGAIN);
}

static void writes_in_order(void **state)
{
	struct test *t = *state;
	int error = 1, number = 0;

	assert_int_equal(batch_run(t->batch, &error), 0);
	for (unsigned int count = 1; count < 10; count++) {
		for (unsigned int i = 0; i < count; i++)
			add(t, i, t->fds[0], number + (int)i);
		assert_int_equal(batch_run(t->batch, &error), count);
		for (unsigned int i = 0; i < count; i++)
			gets(t, number++);
		gets_nothing(t);
	}
	assert_int_equal(error, 1);
}

static void ends_where_there_is_no_room(void **state)
{
	struct test *t = *state;
	unsigned int done;
	int error = 0, least = 1;

	setsockopt(t->fds[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
	for (int round = 0; round < 50; round++) {
		for (unsigned int i = 0; i < BATCH_MAX; i++)
			add(t, i, t->fds[0], (int)i);
		done = batch_run(t->batch, &error);
		assert_true(done > 0 && done < BATCH_MAX);
		assert_int_equal(error, -EAGAIN);
		for (unsigned int i = 0; i < done; i++)
			gets(t, (int)i);
		gets_nothing(t);
	}
}

static void ends_at(struct test *t, int fd, int want)
{
	int error;

	for (unsigned int bad = 0; bad < 8; bad++) {
		error = 0;
		for (unsigned int i = 0; i < 8; i++)
			add(t, i, i == bad ? fd : t->fds[0], (int)i);
		assert_int_equal(batch_run(t->batch, &error), bad);
		assert_int_equal(error, want);
		for (unsigned int i = 0; i < bad; i++)
			gets(t, (int)i);
		gets_nothing(t);
	}
	close(fd);
}

static void ends_at_the_first_that_fails(void **state)
{
	ends_at(*state, open("/dev/null", O_RDONLY | O_CLOEXEC), -EBADF);
}

/* As a TAP was before Linux 6.4. */
static void ends_at_a_file_that_may_wait(void **state)
{
	ends_at(*state, open("/proc/self/comm", O_WRONLY | O_CLOEXEC), -EOPNOTSUPP);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(ends_where_there_is_no_room, setup, teardown),
		cmocka_unit_test_setup_teardown(ends_at_the_first_that_fails, setup, teardown),
		cmocka_unit_test_setup_teardown(ends_at_a_file_that_may_wait, setup, teardown),
	};
	struct batch *batch;

	if (batch_create(&batch) < 0) {
		printf("skipped: no io_uring\n");
		return 77;
	}
	batch_destroy(batch);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

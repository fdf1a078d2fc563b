/* SPDX-License-Identifier: MIT */
/* The loop's operations: work deferred to the end of its turn, and files. */
#include "util/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/unit/loop_runner.h"
#include "util/util.h"

static int setup(void **state)
{
	return loop_create("op", &loop);
}

struct op {
	struct loop_op op;
	unsigned int runs;
	int res;
	unsigned int order;
	int again; /* how often to ask again from done */
	const struct loop_file *file;
	struct iovec iov;
};

static unsigned int op_order;

static struct op *op_ran(struct loop_op *op, int res)
{
	struct op *o = CONTAINER_OF(op, struct op, op);

	o->runs++;
	o->res = res;
	o->order = op_order++;
	return o;
}

/* --- deferred --- */

static void deferred(struct loop_op *op, int res)
{
	struct op *o = op_ran(op, res);

	if (o->again-- > 0)
		loop_defer(loop, op);
}

static void test_defer(void **state)
{
	struct op ops[3];

	op_order = 0;
	for (int i = 0; i < 3; i++) {
		ops[i] = (struct op){.op.done = deferred, .again = i == 0 ? 2 : 0, .res = 1};
		loop_defer(loop, &ops[i].op);
		assert_int_equal(ops[i].runs, 0); /* never inside the call */
	}
	loop_quit(loop);
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(ops[0].runs, 3);
	assert_int_equal(ops[1].order, 1);
	assert_int_equal(ops[2].order, 2);
	assert_int_equal(ops[0].order, 4); /* each turn behind those that waited already */
	assert_int_equal(ops[1].res, 0);
}

static int defer_fds[20];
static unsigned int events_seen, seen_by_deferred;
static struct op publish;

static void published(struct loop_op *op, int res)
{
	op_ran(op, res);
	seen_by_deferred = events_seen;
	loop_quit(loop);
}

static void event_defers(void *arg)
{
	if (events_seen++ == 0)
		loop_defer(loop, &publish.op);
}

/* Once per batch, behind all of it. */
static void test_defer_batch(void **state)
{
	events_seen = seen_by_deferred = 0;
	publish = (struct op){.op.done = published};
	for (size_t i = 0; i < ARRAY_LEN(defer_fds); i++) {
		defer_fds[i] = eventfd(1, EFD_CLOEXEC);
		assert_non_null(loop_watch_event(loop, defer_fds[i], event_defers, NULL));
	}
	assert_int_equal(loop_run(loop), 0);
	assert_int_equal(publish.runs, 1);
	assert_int_equal(seen_by_deferred, ARRAY_LEN(defer_fds));
	for (size_t i = 0; i < ARRAY_LEN(defer_fds); i++)
		close(defer_fds[i]);
}

static void end_busy(void *arg)
{
	struct op *busy = arg;

	busy->again = 0;
	loop_quit(loop);
}

/* Work that defers itself for ever must not keep the rest waiting. */
static void test_defer_does_not_starve(void **state)
{
	struct op busy = {.op.done = deferred, .again = INT32_MAX};
	struct loop_watch *timer = loop_watch_timer(loop, 5, end_busy, &busy);

	assert_non_null(timer);
	loop_defer(loop, &busy.op);
	assert_int_equal(loop_run(loop), 0);
	assert_true(busy.runs > 1);
}

/* --- files --- */

static int new_file(const char *text)
{
	int fd = memfd_create("file", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static void op_done(struct loop_op *op, int res)
{
	op_ran(op, res);
}

static void test_files(void **state)
{
	char a[4] = "", b[4] = "", c[4] = "", text[20];
	const struct iovec two[] = {{a, 3}, {b, 3}}, one = {c, 3}, none = {NULL, 0};
	const struct iovec out[] = {{"xx", 2}, {"yyy", 3}}, single = {"z", 1};
	struct op ops[9];
	struct loop_file file;
	int fd = new_file("0123456789");

	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		ops[i] = (struct op){.op.done = op_done, .res = 99};
	loop_file_init(loop, &file, fd);
	loop_readv(loop, &ops[0].op, &file, two, 2, 2);
	loop_readv(loop, &ops[1].op, &file, &one, 1, 8);  /* short, at the end */
	loop_readv(loop, &ops[2].op, &file, &one, 1, 10); /* behind it */
	loop_readv(loop, &ops[3].op, &file, &none, 1, 0);
	loop_readv(loop, &ops[4].op, &file, two, 2, 1ull << 63);
	assert_int_equal(ops[0].runs, 0);
	run_once();
	assert_memory_equal(a, "234", 3);
	assert_memory_equal(b, "567", 3);
	assert_memory_equal(c, "89", 2);
	loop_writev(loop, &ops[5].op, &file, out, 2, 9);
	run_once();
	loop_writev(loop, &ops[6].op, &file, &single, 1, 0);
	run_once();
	loop_fallocate(loop, &ops[7].op, &file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, 2);
	run_once();
	loop_fdatasync(loop, &ops[8].op, &file);
	run_once();
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		static const int expected[] = {6, 2, 0, 0, -EINVAL, 5, 1, 0, 0};

		assert_int_equal(ops[i].runs, 1);
		assert_int_equal(ops[i].res, expected[i]);
	}
	assert_int_equal(pread(fd, text, sizeof(text), 0), 14);
	assert_memory_equal(text, "z\0\000345678xxyyy", 14);
	loop_file_finish(loop, &file);
	loop_file_finish(loop, &file);
	close(fd);
}

/* All ones means "where the file stands" to the kernel; to us it is a bad offset. */
static void test_offset_all_ones(void **state)
{
	char byte = 'x';
	const struct iovec iov = {&byte, 1};
	struct op ops[2] = {{.op.done = op_done}, {.op.done = op_done}};
	struct loop_file file;
	int fd = new_file("0123456789");

	assert_int_equal(lseek(fd, 3, SEEK_SET), 3);
	loop_file_init(loop, &file, fd);
	loop_readv(loop, &ops[0].op, &file, &iov, 1, UINT64_MAX);
	loop_writev(loop, &ops[1].op, &file, &iov, 1, UINT64_MAX);
	run_once();
	assert_int_equal(ops[0].res, -EINVAL);
	assert_int_equal(ops[1].res, -EINVAL);
	loop_file_finish(loop, &file);
	close(fd);
}

static void test_file_errors(void **state)
{
	char byte;
	const struct iovec iov = {&byte, 1};
	struct op ops[4] = {{.op.done = op_done}, {.op.done = op_done}, {.op.done = op_done},
			    {.op.done = op_done}};
	struct loop_file closed, directory;
	int dir_fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	loop_file_init(loop, &closed, 987);
	loop_file_init(loop, &directory, dir_fd);
	loop_readv(loop, &ops[0].op, &closed, &iov, 1, 0);
	loop_fdatasync(loop, &ops[1].op, &closed);
	loop_readv(loop, &ops[2].op, &directory, &iov, 1, 0);
	loop_writev(loop, &ops[3].op, &directory, &iov, 1, 0);
	run_once();
	assert_int_equal(ops[0].res, -EBADF);
	assert_int_equal(ops[1].res, -EBADF);
	assert_int_equal(ops[2].res, -EISDIR);
	assert_int_equal(ops[3].res, -EBADF);
	for (int i = 0; i < 4; i++)
		assert_int_equal(ops[i].runs, 1);
	loop_file_finish(loop, &closed);
	loop_file_finish(loop, &directory);
	close(dir_fd);
}

/* More files than slots; a slot used again shows the new file. */
static void test_many_files(void **state)
{
	struct loop_file files[100];
	struct op ops[100];
	char bytes[100];
	struct iovec iov[100];
	int fds[100];

	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 100; i++) {
			char text[2] = {(char)(i + 10 * round + 1)};

			fds[i] = new_file(text);
			ops[i] = (struct op){.op.done = op_done};
			iov[i] = (struct iovec){&bytes[i], 1};
			loop_file_init(loop, &files[i], fds[i]);
			loop_readv(loop, &ops[i].op, &files[i], &iov[i], 1, 0);
		}
		run_once();
		for (int i = 0; i < 100; i++) {
			assert_int_equal(ops[i].res, 1);
			assert_int_equal(bytes[i], i + 10 * round + 1);
			loop_file_finish(loop, &files[i]);
			close(fds[i]);
		}
	}
}

#define READS 2000

static void read_on(struct loop_op *op, int res)
{
	struct op *o = op_ran(op, res);

	if (o->again-- > 0)
		loop_readv(loop, &o->op, o->file, &o->iov, 1, 0);
}

/* Far more than the ring holds, asked for at once and from their own completions. */
static void test_many_operations(void **state)
{
	struct op *ops = calloc(READS, sizeof(*ops));
	struct loop_file file;
	int fd = new_file("x");
	char *bytes = calloc(READS, 1);

	loop_file_init(loop, &file, fd);
	run_once(); /* before that, a ring takes no more than it holds */
	for (int i = 0; i < READS; i++) {
		ops[i] = (struct op){.op.done = read_on, .again = 3, .file = &file,
				     .iov = {&bytes[i], 1}};
		loop_readv(loop, &ops[i].op, &file, &ops[i].iov, 1, 0);
	}
	run_once();
	for (int i = 0; i < READS; i++) {
		assert_int_equal(ops[i].runs, 4);
		assert_int_equal(ops[i].res, 1);
		assert_int_equal(bytes[i], 'x');
	}
	loop_file_finish(loop, &file);
	close(fd);
	free(bytes);
	free(ops);
}

static void *write_late(void *arg)
{
	usleep(50000);
	return (void *)write(*(int *)arg, "x", 1);
}

/* What is in flight uses its owner's memory: the loop ends behind it. */
static void test_quit_waits(void **state)
{
	char byte = 0;
	const struct iovec iov = {&byte, 1};
	struct op op = {.op.done = op_done};
	struct loop_file file;
	pthread_t thread;
	int fds[2];

	assert_int_equal(pipe(fds), 0);
	loop_file_init(loop, &file, fds[0]);
	loop_readv(loop, &op.op, &file, &iov, 1, 0);
	assert_int_equal(pthread_create(&thread, NULL, write_late, &fds[1]), 0);
	run_once();
	assert_int_equal(op.runs, 1);
	assert_int_equal(op.res, 1);
	assert_int_equal(byte, 'x');
	pthread_join(thread, NULL);
	loop_file_finish(loop, &file);
	close(fds[0]);
	close(fds[1]);
}

/* An image must be free to open again as soon as its disk is gone. */
static void test_end_releases_files(void **state)
{
	char path[] = "/tmp/minivmm-test-XXXXXX";
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	struct flock probe = lock;
	int fd = mkstemp(path), other = open(path, O_RDWR | O_CLOEXEC);
	struct loop_file file;
	struct loop *l;

	unlink(path);
	assert_int_equal(loop_create("short", &l), 0);
	loop_file_init(l, &file, fd);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(loop_start(l), 0);
	loop_stop(l);
	loop_file_finish(l, &file);
	close(fd);
	loop_destroy(l);
	assert_int_equal(fcntl(other, F_OFD_GETLK, &probe), 0);
	assert_int_equal(probe.l_type, F_UNLCK);
	close(other);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, loop_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defer),
		TEST(test_defer_batch),
		TEST(test_defer_does_not_starve),
		TEST(test_files),
		TEST(test_offset_all_ones),
		TEST(test_file_errors),
		TEST(test_many_files),
		TEST(test_many_operations),
		TEST(test_quit_waits),
		TEST(test_end_releases_files),
	};

	if (!loop_works())
		return 77;
	return cmocka_run_group_tests(tests, NULL, NULL);
}

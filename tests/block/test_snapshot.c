/* SPDX-License-Identifier: MIT */
/* Temporary overlays: the disk stays as it is, or gets all of it in the end. */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot_scene.h"
#include "util/util.h"

static bool no_nameless; /* as on file systems that have no such files */

int open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	if ((flags & O_TMPFILE) == O_TMPFILE && no_nameless) {
		errno = EOPNOTSUPP;
		return -1;
	}
	if (flags & (O_CREAT | __O_TMPFILE)) {
		va_start(args, flags);
		mode = va_arg(args, mode_t);
		va_end(args);
	}
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static void thrown_away(const struct kind *kind, enum blk_snapshot snapshot, uint64_t seed)
{
	struct work *work = filled_work(seed);

	print_message("%s, thrown away\n", kind->name);
	make(kind, work);
	assert_int_equal(try_open(disk, snapshot, &work->blk), 0);
	assert_int_equal(blk_info(work->blk)->readonly, false);
	assert_int_equal(blk_info(work->blk)->size_bytes, DISK_BYTES);
	work_run(work, loop, 40);
	assert_int_equal(blk_close(work->blk), 0);
	assert_int_equal(shell("cmp %s %s", disk, copy), 0);
	assert_false(exists(left));
	work_destroy(work);
}

static void committed(const struct kind *kind, uint64_t seed)
{
	struct work *work = filled_work(seed);

	print_message("%s, merged\n", kind->name);
	make(kind, work);
	for (int round = 0; round < 2; round++) {
		assert_int_equal(try_open(disk, BLK_SNAPSHOT_COMMIT, &work->blk), 0);
		work_run(work, loop, 40);
		assert_int_equal(blk_commit(work->blk), 0);
		assert_int_equal(blk_close(work->blk), 0);
		assert_false(exists(left));
		holds(kind, work);
	}
	if (kind == &kinds[KIND_BACKED])
		assert_int_equal(shell("sha256sum -c %s", temp_path("filling.sum")), 0);
	work_destroy(work);
}

static void test_thrown_away(void **state)
{
	uint64_t seed = test_seed(41);

	for (size_t i = 0; i < kind_count; i++) {
		thrown_away(&kinds[i], BLK_SNAPSHOT_ON, rnd(&seed));
		thrown_away(&kinds[i], BLK_SNAPSHOT_COMMIT, rnd(&seed));
	}
}

static void test_committed(void **state)
{
	uint64_t seed = test_seed(42);

	for (size_t i = 0; i < kind_count; i++)
		committed(&kinds[i], rnd(&seed));
}

/* --- who may, and where --- */

static void test_shared(void **state)
{
	struct work *work = filled_work(1);
	struct blk *one, *two;

	make(&kinds[0], work);
	assert_int_equal(try_open(disk, BLK_SNAPSHOT_ON, &one), 0);
	assert_int_equal(try_open(disk, BLK_SNAPSHOT_ON, &two), 0);
	refused(disk, BLK_SNAPSHOT_OFF, "in use already");
	refused(disk, BLK_SNAPSHOT_COMMIT, "in use already");
	assert_int_equal(blk_commit(one), 0); /* nothing to do */
	assert_int_equal(blk_close(one), 0);
	assert_int_equal(blk_close(two), 0);
	assert_int_equal(try_open(disk, BLK_SNAPSHOT_COMMIT, &one), 0);
	refused(disk, BLK_SNAPSHOT_ON, "in use already");
	assert_int_equal(blk_close(one), 0);
	work_destroy(work);
}

static void test_where(void **state)
{
	struct work *work = filled_work(1);

	make(&kinds[0], work);
	setenv("TMPDIR", "/nowhere", 1);
	refused(disk, BLK_SNAPSHOT_ON, "in /nowhere");
	assert_int_equal(try_open(disk, BLK_SNAPSHOT_COMMIT, &work->blk), 0);
	assert_int_equal(blk_close(work->blk), 0);
	unsetenv("TMPDIR");
	refused(temp_path("none.img"), BLK_SNAPSHOT_ON, "no such file");
	refused(temp_path("none.img"), BLK_SNAPSHOT_COMMIT, "no such file");
	work_destroy(work);
}

/* Opened by who gave us the fd, and without a name by now. */
static void test_nameless(void **state)
{
	const char *name = temp_path("nameless.img");
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	char path[32];

	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	assert_int_equal(unlink(name), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	refused(path, BLK_SNAPSHOT_ON, "has no name");
	close(fd);
}

/* By a symbolic link: the overlay lies where the file does. */
static void test_symlink(void **state)
{
	struct work *work = filled_work(1);
	unsigned char buf[512] = {1};
	const char *name = temp_path("link.img");

	make(&kinds[0], work);
	assert_int_equal(shell("mkdir -p %s && ln -sf %s %s", temp_path("other"), disk, name), 0);
	assert_int_equal(try_open(name, BLK_SNAPSHOT_COMMIT, &work->blk), 0);
	assert_int_equal(do_write(loop, work->blk, buf, 512, 0), 0);
	assert_int_equal(shell("touch %s", left), 0); /* by whoever */
	assert_int_equal(blk_commit(work->blk), 0);
	assert_int_equal(blk_close(work->blk), 0);
	assert_true(exists(left));
	refused(name, BLK_SNAPSHOT_OFF, "not merged to the end");
	unlink(left);
	work_destroy(work);
}

/* What is left keeps the disk from being opened, for reading too, and as a backing file. */
static void test_left(void **state)
{
	struct work *work = filled_work(1);
	struct blk_options readonly = {.readonly = true};
	const char *above = temp_path("above.qcow2");
	struct blk *blk;

	make(&kinds[0], work);
	readonly.path = disk;
	left = temp_path("disk.img.snapshot-2.qcow2");
	assert_int_equal(shell("touch %s && qemu-img create -f qcow2 -b %s -F raw %s", left, disk,
			       above), 0);
	refused(above, BLK_SNAPSHOT_OFF, "not merged to the end");
	capture_log_start();
	assert_int_equal(blk_open(loop, &readonly, &blk), -EBUSY);
	assert_non_null(strstr(capture_log_end(), "not merged to the end"));
	if (geteuid() == 0) { /* somebody else's file of that name means nothing */
		assert_int_equal(chown(left, 65534, 65534), 0);
		assert_int_equal(blk_open(loop, &readonly, &blk), 0);
		assert_int_equal(blk_close(blk), 0);
	}
	unlink(left);
	work_destroy(work);
}

static unsigned int count_temporary(void)
{
	return (unsigned int)shell("exit $(ls %s.temporary-* 2>/dev/null | wc -l)", disk);
}

/* Where no file is without a name: what a killed one leaves is no merge that was begun. */
static void test_named(void **state)
{
	struct work *work = filled_work(1);
	struct blk *blk;
	pid_t pid;

	no_nameless = true;
	thrown_away(&kinds[0], BLK_SNAPSHOT_ON, 1);
	assert_int_equal(count_temporary(), 0);
	thrown_away(&kinds[1], BLK_SNAPSHOT_COMMIT, 2);
	assert_int_equal(count_temporary(), 0);
	committed(&kinds[1], 3);
	assert_int_equal(count_temporary(), 0);
	pid = fork();
	if (pid == 0)
		_exit(try_open(disk, BLK_SNAPSHOT_COMMIT, &blk) < 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(count_temporary(), 1);
	assert_int_equal(try_open(disk, BLK_SNAPSHOT_COMMIT, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	no_nameless = false;
	work_destroy(work);
}

/* --- merges that fail --- */

/* No file can grow beyond this. */
static void limit_files(uint64_t bytes)
{
	struct rlimit limit = {.rlim_cur = bytes, .rlim_max = RLIM_INFINITY};

	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void fails_and_is_finished(const struct kind *kind, uint64_t seed)
{
	struct work *work = filled_work(seed);
	struct blk *blk;
	const char *log;

	print_message("%s, the merge fails\n", kind->name);
	make(kind, work);
	assert_int_equal(try_open(disk, BLK_SNAPSHOT_COMMIT, &work->blk), 0);
	work->max_len = 64;
	work_run(work, loop, 4);
	limit_files(kind == &kinds[KIND_BACKED] ? 512 << 10 : 12 << 20);
	capture_log_start();
	assert_int_not_equal(blk_commit(work->blk), 0);
	blk_close(work->blk);
	log = capture_log_end();
	limit_files(RLIM_INFINITY);
	assert_non_null(strstr(log, "finish with: qemu-img commit"));
	assert_true(exists(left));
	refused(disk, BLK_SNAPSHOT_OFF, "not merged to the end");
	refused(disk, BLK_SNAPSHOT_ON, "not merged to the end");
	assert_int_equal(shell("qemu-img check -f qcow2 %s", left), 0);
	assert_int_equal(shell("qemu-img commit -f qcow2 %s && rm %s", left, left), 0);
	holds(kind, work);
	assert_int_equal(try_open(disk, BLK_SNAPSHOT_OFF, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	work_destroy(work);
}

static void test_fails(void **state)
{
	uint64_t seed = test_seed(43);

	fails_and_is_finished(&kinds[0], rnd(&seed));
	fails_and_is_finished(&kinds[3], rnd(&seed));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_thrown_away),
		cmocka_unit_test(test_committed),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_where),
		cmocka_unit_test(test_nameless),
		cmocka_unit_test(test_symlink),
		cmocka_unit_test(test_left),
		cmocka_unit_test(test_named),
		cmocka_unit_test(test_fails),
	};
	int r;

	if (!have_qemu_tools() || loop_create("test", &loop) < 0) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return 77;
	}
	signal(SIGXFSZ, SIG_IGN); /* as minivmm does */
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(loop);
	return r;
}

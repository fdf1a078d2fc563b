/* SPDX-License-Identifier: MIT */
/* minivmm-qcow as a process: one that misbehaves in every way, and how the real one is kept. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/util.h"

#define REQS 5

static struct loop *loop;
static const char *image;

/* Open with minivmm-qcow, or as `way` says with a fake one. */
static int open_by(const char *way, struct blk **out)
{
	struct blk_options opts = {.path = image, .format = BLK_FORMAT_QCOW, .readonly = true};
	char link[64];

	opts.reader_program = getenv("MINIVMM_QCOW");
	if (way) {
		snprintf(link, sizeof(link), "fake-%s", way);
		opts.reader_program = temp_path(link);
		if (access(opts.reader_program, F_OK) < 0)
			assert_int_equal(symlink(getenv("FAKE_QCOW"), opts.reader_program), 0);
	}
	return blk_open(loop, &opts, out);
}

static void one_line(const char *log, const char *says, const char *way)
{
	if (!strstr(log, says) || strchr(log, '\n') != strrchr(log, '\n'))
		fail_msg("%s: one line with \"%s\" expected, not: %s", way, says, log);
}

static void no_child_left(void)
{
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* --- at open --- */

static const struct {
	const char *way, *says;
} at_open[] = {
	{"ready-exit", "ended"},
	{"ready-segv", "Segmentation fault"},
	{"ready-hang", "5 s"},
	{"ready-close", "did not start"},
	{"ready-garbage", "no sense"},
	{"ready-short", "no sense"},
	{"ready-long", "no sense"},
	{"ready-empty", "did not start"},
	{"open-exit", "ended"},
	{"open-segv", "Segmentation fault"},
	{"open-hang", "5 s"},
	{"open-close", "minivmm-qcow"},
	{"open-garbage", "no sense"},
	{"open-short", "no sense"},
	{"open-size", "another image"},
	{"open-version", "another image"},
	{"open-encrypted", "another image"},
	{"open-backed", "another image"},
	{"open-flag", "no sense"},
	{"open-failed", "does not open"},
};

static void test_at_open(void **state)
{
	struct blk *blk;

	for (size_t i = 0; i < ARRAY_LEN(at_open); i++) {
		int r;

		capture_log_start();
		r = open_by(at_open[i].way, &blk);
		one_line(capture_log_end(), at_open[i].says, at_open[i].way);
		assert_true(r < 0);
		no_child_left();
	}
}

static void test_not_there(void **state)
{
	struct blk_options opts = {.path = image, .format = BLK_FORMAT_QCOW, .readonly = true,
				   .reader_program = "/nowhere/minivmm-qcow"};
	struct blk *blk;

	capture_log_start();
	assert_int_equal(blk_open(loop, &opts, &blk), -ENOENT);
	one_line(capture_log_end(), "cannot be started", "not there");
}

/* --- while reading --- */

struct job {
	struct blk_req req;
	struct iovec iov;
	unsigned char buf[8192];
	unsigned int answers;
	int err;
};

static unsigned int left;

static void job_done(struct blk_req *req, int err)
{
	struct job *job = CONTAINER_OF(req, struct job, req);

	job->answers++;
	job->err = err;
	if (--left == 0)
		stop_running(loop);
}

static void submit(struct blk *blk, struct job *job, uint64_t at)
{
	job->iov = (struct iovec){job->buf, sizeof(job->buf)};
	job->req = (struct blk_req){.op = BLK_READ, .offset_bytes = at,
				    .len_bytes = sizeof(job->buf), .iov = &job->iov, .iovcnt = 1,
				    .done = job_done};
	left++;
	blk_submit(blk, &job->req);
	assert_int_equal(job->answers, 0);
}

/* Several at once, in both modes: what the first gets, and the rest. */
static void read_some(struct blk *blk, int first, int rest)
{
	static struct job jobs[REQS];

	memset(jobs, 0, sizeof(jobs));
	for (unsigned int i = 0; i < REQS; i++)
		submit(blk, &jobs[i], i * 65536);
	run_until_zero(loop, &left);
	for (unsigned int i = 0; i < REQS; i++) {
		assert_int_equal(jobs[i].answers, 1);
		assert_int_equal(jobs[i].err, i ? rest : first);
	}
}

static const struct {
	const char *way, *says;
} at_read[] = {
	{"read-exit", "ended"},
	{"read-segv", "Segmentation fault"},
	{"read-hang", "5 s"},
	{"read-close", "minivmm-qcow"},
	{"read-garbage", "no sense"},
	{"read-short", "no sense"},
	{"read-long", "no sense"},
	{"read-empty", "minivmm-qcow"},
	{"read-more", "no sense"},
	{"read-less", "no sense"},
	{"read-other", "no sense"},
	{"read-kind", "no sense"},
	{"read-flag", "no sense"},
};

static void test_at_read(void **state)
{
	unsigned char buf[512];
	struct blk *blk;

	for (size_t i = 0; i < ARRAY_LEN(at_read); i++) {
		assert_int_equal(open_by(at_read[i].way, &blk), 0);
		capture_log_start();
		read_some(blk, -EIO, -EIO);
		read_some(blk, -EIO, -EIO);
		assert_int_equal(blk_read_sync(blk, buf, sizeof(buf), 0), -EIO);
		one_line(capture_log_end(), at_read[i].says, at_read[i].way);
		assert_int_equal(blk_close(blk), 0);
		no_child_left();
	}
}

static void test_at_sync_read(void **state)
{
	unsigned char buf[512];
	struct blk *blk;

	for (size_t i = 0; i < ARRAY_LEN(at_read); i++) {
		assert_int_equal(open_by(at_read[i].way, &blk), 0);
		capture_log_start();
		assert_int_equal(blk_read_sync(blk, buf, sizeof(buf), 0), -EIO);
		assert_int_equal(blk_read_sync(blk, buf, sizeof(buf), 0), -EIO);
		read_some(blk, -EIO, -EIO);
		one_line(capture_log_end(), at_read[i].says, at_read[i].way);
		assert_int_equal(blk_close(blk), 0);
		no_child_left();
	}
}

/* An answer to nothing, after a good one. */
static void test_unasked(void **state)
{
	unsigned char buf[512];
	struct blk *blk;

	assert_int_equal(open_by("read-early", &blk), 0);
	capture_log_start();
	assert_int_equal(blk_read_sync(blk, buf, sizeof(buf), 0), 0);
	assert_int_equal(blk_read_sync(blk, buf, sizeof(buf), 1 << 20), -EIO);
	one_line(capture_log_end(), "no sense", "unasked");
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(open_by("read-early", &blk), 0);
	capture_log_start();
	read_some(blk, 0, -EIO);
	one_line(capture_log_end(), "no sense", "unasked");
	assert_int_equal(blk_close(blk), 0);
}

/* A cluster that cannot be read is not the end. */
static void test_failed(void **state)
{
	struct blk *blk;

	assert_int_equal(open_by("read-failed", &blk), 0);
	capture_log_start();
	read_some(blk, -EIO, -EIO);
	assert_non_null(strstr(capture_log_end(), "cannot read the clusters"));
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(open_by("good", &blk), 0);
	read_some(blk, 0, 0);
	assert_int_equal(blk_close(blk), 0);
	no_child_left();
}

/* --- the real one --- */

/* The only child of `parent`, or 0. */
static pid_t child_of(pid_t parent)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		char path[300], text[512] = "";
		int ppid = 0, fd;

		snprintf(path, sizeof(path), "/proc/%s/stat", entry->d_name);
		fd = atoi(entry->d_name) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
		if (fd < 0)
			continue;
		if (read(fd, text, sizeof(text) - 1) > 0 && strrchr(text, ')') &&
		    sscanf(strrchr(text, ')'), ") %*c %d", &ppid) == 1 && ppid == parent)
			found = atoi(entry->d_name);
		close(fd);
	}
	closedir(dir);
	return found;
}

static void status_says(pid_t pid, const char *line)
{
	assert_int_equal(shell("grep -qx '%s' /proc/%d/status", line, (int)pid), 0);
}

static void test_confined(void **state)
{
	struct blk *blk;
	pid_t pid;

	assert_int_equal(open_by(NULL, &blk), 0);
	pid = child_of(getpid());
	assert_int_not_equal(pid, 0);
	status_says(pid, "Seccomp:\t2");
	status_says(pid, "NoNewPrivs:\t1");
	status_says(pid, "SigBlk:\t0000000000000000");
	if (geteuid() == 0) { /* it is not dumpable: others may not look */
		assert_int_equal(shell("test \"$(ls /proc/%d/fd | xargs)\" = '0 1 2 3 4 5'",
				       (int)pid), 0);
		assert_int_equal(shell("test -z \"$(cat /proc/%d/environ)\"", (int)pid), 0);
		assert_int_equal(shell("test $(stat -c %%u /proc/%d/mem) = 0", (int)pid), 0);
	}
	assert_int_equal(blk_close(blk), 0);
	no_child_left();
}

static void test_killed(void **state)
{
	static struct job job;
	struct blk *blk;

	assert_int_equal(open_by(NULL, &blk), 0);
	read_some(blk, 0, 0);
	capture_log_start();
	kill(child_of(getpid()), SIGKILL);
	memset(&job, 0, sizeof(job));
	submit(blk, &job, 5 << 20);
	run_until_zero(loop, &left);
	assert_int_equal(job.answers, 1);
	assert_int_equal(job.err, -EIO);
	read_some(blk, -EIO, -EIO);
	one_line(capture_log_end(), "Killed", "killed");
	assert_int_equal(blk_close(blk), 0);
	no_child_left();
}

/* Nobody must be left when minivmm is killed. */
static void test_parent_killed(void **state)
{
	pid_t parent, child = 0;
	int fds[2];
	char byte;

	assert_int_equal(pipe(fds), 0);
	parent = fork();
	if (!parent) {
		struct blk *blk;

		if (open_by(NULL, &blk) == 0 && write(fds[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	child = child_of(parent);
	assert_int_not_equal(child, 0);
	kill(parent, SIGKILL);
	waitpid(parent, NULL, 0);
	for (int i = 0; i < 500 && kill(child, 0) == 0 &&
	     shell("grep -q 'State:.*Z' /proc/%d/status", (int)child) != 0; i++)
		usleep(10000);
	assert_true(kill(child, 0) < 0 ||
		    shell("grep -q 'State:.*Z' /proc/%d/status", (int)child) == 0);
	close(fds[0]);
}

/* Run by hand it says who runs it. */
static void test_by_hand(void **state)
{
	assert_int_equal(shell("%s 3<&- 4<&- 5<&-", getenv("MINIVMM_QCOW")), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_at_open),
		cmocka_unit_test(test_not_there),
		cmocka_unit_test(test_at_read),
		cmocka_unit_test(test_at_sync_read),
		cmocka_unit_test(test_unasked),
		cmocka_unit_test(test_failed),
		cmocka_unit_test(test_confined),
		cmocka_unit_test(test_killed),
		cmocka_unit_test(test_parent_killed),
		cmocka_unit_test(test_by_hand),
	};
	int r;

	if (!have_qemu_tools() || loop_create("test", &loop) < 0) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return 77;
	}
	image = temp_path("image");
	shell("qemu-img create -f qcow %s 8M", image);
	shell("qemu-io -f qcow -c 'write -P 5 0 8M' %s", image);
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(loop);
	return r;
}

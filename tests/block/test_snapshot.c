/* SPDX-License-Identifier: MIT */
/*
 * Temporary overlays: the disk stays as it is, or gets all of it in the end; and wherever the
 * merge is cut off, disk and overlay together have what the guest wrote.
 *
 * CUT_STRIDE=1 cuts at every operation; by default at some.
 */
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

#include "block/impl.h"
#include "block/qcow2/qcow2.h"
#include "sim.h"
#include "util/util.h"
#include "work.h"

#define DISK_BYTES ((24ull << 20) + 512 * 7)
#define SECTORS (DISK_BYTES / 512)

static struct loop *loop;
static const char *disk, *copy, *left;
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

static int try_open(const char *path, enum blk_snapshot snapshot, struct blk **out)
{
	struct blk_options opts = {.path = path, .snapshot = snapshot, .backing = BLK_BACKING_ON};

	return blk_open(loop, &opts, out);
}

static void refused(const char *path, enum blk_snapshot snapshot, const char *says)
{
	struct blk *blk;
	const char *log;
	int r;

	capture_log_start();
	r = try_open(path, snapshot, &blk);
	log = capture_log_end();
	if (r >= 0)
		fail_msg("%s: opened, not \"%s\"", path, says);
	if (!strstr(log, says) || strchr(log, '\n') != strrchr(log, '\n'))
		fail_msg("\"%s\" expected in: %s", says, log);
}

static bool exists(const char *path)
{
	return access(path, F_OK) == 0;
}

static struct work *filled_work(uint64_t seed)
{
	struct work *work = work_create(NULL, 0, SECTORS, seed);

	work_assume(work, 1, SECTORS / 2);
	work->idle_discards = true;
	return work;
}

/* --- kinds of disks --- */

static void make_raw(struct work *work)
{
	work_save(work, disk, DISK_BYTES);
}

static void make_qcow2(struct work *work)
{
	const char *raw = temp_path("filling.raw");

	work_save(work, raw, DISK_BYTES);
	assert_int_equal(shell("qemu-img convert -f raw -O qcow2 -o cluster_size=4k %s %s", raw,
			       disk), 0);
}

static void make_packed(struct work *work)
{
	const char *raw = temp_path("filling.raw");

	work_save(work, raw, DISK_BYTES);
	assert_int_equal(shell("qemu-img convert -c -f raw -O qcow2 -o compat=0.10 %s %s", raw,
			       disk), 0);
}

static void make_backed(struct work *work)
{
	const char *raw = temp_path("filling.raw");

	work_save(work, raw, DISK_BYTES);
	assert_int_equal(shell("qemu-img create -f qcow2 -b %s -F raw %s", raw, disk), 0);
	assert_int_equal(shell("(sha256sum %s >%s)", raw, temp_path("filling.sum")), 0);
}

static const struct kind {
	const char *name, *file, *format;
	void (*make)(struct work *work);
} kinds[] = {
	{"raw", "disk.img", "raw", make_raw},
	{"qcow2", "disk.qcow2", "qcow2", make_qcow2},
	{"compressed", "packed.qcow2", "qcow2", make_packed},
	{"backed", "backed.qcow2", "qcow2", make_backed},
};

static void make(const struct kind *kind, struct work *work)
{
	char name[64];

	disk = temp_path(kind->file);
	copy = temp_path("copy");
	snprintf(name, sizeof(name), "%s.snapshot-1.qcow2", kind->file);
	left = temp_path(name);
	kind->make(work);
	assert_int_equal(shell("cp %s %s", disk, copy), 0);
}

/* The disk holds what was written, for QEMU, which finds nothing wrong. */
static void holds(const struct kind *kind, struct work *work)
{
	const char *raw = temp_path("result.raw");

	if (strcmp(kind->format, "qcow2") == 0)
		assert_int_equal(shell("qemu-img check -f qcow2 %s", disk), 0);
	assert_int_equal(shell("qemu-img convert -f %s -O raw %s %s", kind->format, disk, raw), 0);
	work_closed(work);
	assert_int_equal(work_compare_file(work, raw), 0);
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
	if (kind->make == make_backed)
		assert_int_equal(shell("sha256sum -c %s", temp_path("filling.sum")), 0);
	work_destroy(work);
}

static void test_thrown_away(void **state)
{
	uint64_t seed = test_seed(41);

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		thrown_away(&kinds[i], BLK_SNAPSHOT_ON, rnd(&seed));
		thrown_away(&kinds[i], BLK_SNAPSHOT_COMMIT, rnd(&seed));
	}
}

static void test_committed(void **state)
{
	uint64_t seed = test_seed(42);

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
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
	limit_files(kind->make == make_backed ? 512 << 10 : 12 << 20);
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

/* --- cut off --- */

struct merge {
	struct sim *disk, *overlay;
	struct blk *blk;
	struct work *work;
};

static int open_disk(void *arg, const char *file, const char *format, struct blk **out)
{
	struct sim *sim = arg;
	struct qcow2_options opts = {.name = "disk"};
	bool is_raw = strcmp(format, "raw") == 0;
	int r;

	sim->below->in_order = true;
	r = is_raw ? raw_create(&sim->below->bio, "disk", false, out)
		   : qcow2_create(&sim->below->bio, &opts, out);
	sim->below->in_order = false;
	return r;
}

static void open_both(struct merge *m, uint64_t seed)
{
	struct qcow2_options opts = {.name = "overlay", .open_backing = open_disk};

	m->disk = sim_create(seed);
	m->overlay = sim_create(seed + 1);
	m->overlay->below = m->disk;
	opts.arg = m->overlay;
	sim_load(m->disk, disk);
	sim_load(m->overlay, left);
	m->overlay->in_order = true;
	assert_int_equal(qcow2_create(&m->overlay->bio, &opts, &m->blk), 0);
	m->overlay->in_order = false;
}

static void check_joined(struct work *work, const char *file, const char *format, long at)
{
	const char *raw = temp_path("joined.raw");

	assert_int_equal(shell("qemu-img convert -f %s -O raw %s %s", format, file, raw), 0);
	if (work_compare_file(work, raw))
		fail_msg("cut off at operation %ld: sectors of %s lost", at, file);
}

/* The power goes at operation `n` of the disk: returns false if the merge ended before. */
static bool cut_at(const struct kind *kind, struct work *work, long n, uint64_t seed)
{
	struct merge m;
	bool came;
	int r;

	open_both(&m, seed);
	m.disk->fail_after = n;
	m.disk->fail_errno = -EIO;
	m.disk->fail_from_then_on = true;
	capture_log_start();
	r = qcow2_merge(m.blk);
	came = m.disk->fail_after < -1;
	assert_int_equal(r != 0, came);
	sim_cut(m.disk, (unsigned int)(rnd(&seed) % 257));
	sim_save_durable(m.disk, disk);
	blk_close(m.blk);
	capture_log_end();
	sim_destroy(m.overlay); /* and the disk */

	if (strcmp(kind->format, "qcow2") == 0) {
		r = shell("qemu-img check -f qcow2 %s", disk);
		assert_true(r == 0 || r == 3);
	}
	if (!came) {
		check_joined(work, disk, kind->format, n);
		return false;
	}
	check_joined(work, left, "qcow2", n);
	if (rnd(&seed) % 4 == 0) {
		assert_int_equal(shell("qemu-img commit -f qcow2 -d %s", left), 0);
		check_joined(work, disk, kind->format, n);
	}
	return true;
}

/* An overlay with some work in it; as after blk_commit gave it a name. */
static void make_overlay(const struct kind *kind, struct work *work)
{
	struct merge m;

	assert_int_equal(shell("qemu-img create -f qcow2 -b %s -F %s %s", disk, kind->format, left),
			 0);
	open_both(&m, 7);
	work->blk = m.blk;
	for (int i = 0; i < 60; i++) {
		work_submit(work);
		sim_run(m.overlay);
	}
	assert_int_equal(blk_close(m.blk), 0);
	work_closed(work);
	sim_save(m.overlay, left);
	sim_destroy(m.overlay);
}

static void cut_everywhere(const struct kind *kind, uint64_t seed)
{
	const char *stride = getenv("CUT_STRIDE");
	uint64_t step = stride ? strtoull(stride, NULL, 0) : 12;
	struct work *work = filled_work(seed);
	long n = (long)(rnd(&seed) % step);

	make(kind, work);
	work->max_len = 300;
	make_overlay(kind, work);
	while (cut_at(kind, work, n, rnd(&seed))) {
		n += (long)(1 + rnd(&seed) % (2 * step - 1));
		assert_int_equal(shell("cp %s %s", copy, disk), 0);
	}
	print_message("%s, cut off up to operation %ld\n", kind->name, n);
	work_destroy(work);
}

static void test_cut(void **state)
{
	uint64_t seed = test_seed(44);

	cut_everywhere(&kinds[0], rnd(&seed));
	cut_everywhere(&kinds[1], rnd(&seed));
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
		cmocka_unit_test(test_cut),
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

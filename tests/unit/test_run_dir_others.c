/* SPDX-License-Identifier: MIT */
/* The run directory: what others may put there, or put in its place, and what they may see. */
#include "util/run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/run_dir_fixture.h"
#include "util/util.h"

static void write_at(const char *name, const void *data, size_t len, off_t size)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static bool exists(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* As the machine does. The lock is gone when the returned file is closed. */
static int hold(const char *name)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	return fd;
}

static void hostile_files_are_counted(void **state)
{
	static const char good[] = "minivmm 1\nvm pid=1 name=x\n";
	static const char nic[] = "minivmm 1\nvm pid=1\nnic name=net0\n";
	int held[6];

	run_withdraw(publish());
	write_at("1-1", good, strlen(good), RUN_TEXT_BYTES);
	write_at("1-2", good, strlen(good), RUN_TEXT_BYTES - 1); /* short */
	write_at("1-3", nic, strlen(nic), RUN_TEXT_BYTES);	 /* no counters */
	write_at("1-4", "\xff\xff", 2, 1ll << 40);		 /* huge, and no text */
	write_at("1-5", "", 0, 0);
	write_at("1-6", "minivmm 7\n", 10, RUN_TEXT_BYTES);
	for (int i = 0; i < 6; i++)
		held[i] = hold((char[]){'1', '-', (char)('1' + i), 0});
	see(1, 5);
	for (int i = 0; i < 6; i++)
		close(held[i]);
	see(0, 0);
	assert_int_equal(rmdir(dir), 0);
}

static void what_is_no_file_is_left_alone(void **state)
{
	char path[256], target[256];

	run_withdraw(publish());
	snprintf(target, sizeof(target), "%s/precious", base);
	assert_int_equal(close(open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
	snprintf(path, sizeof(path), "%s/1-1", dir);
	assert_int_equal(symlink(target, path), 0);
	snprintf(path, sizeof(path), "%s/1-2", dir);
	assert_int_equal(mkfifo(path, 0600), 0); /* does not wait for a writer */
	snprintf(path, sizeof(path), "%s/1-3", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	see(0, 3);
	assert_int_equal(access(target, F_OK), 0);
	assert_true(exists("1-1") && exists("1-2") && exists("1-3"));
}

static void other_names_are_not_entries(void **state)
{
	static const char *const names[] = {"notes", "1", "1-", "-1", "1-2-3", "1-2.tmp", "a-1"};

	run_withdraw(publish());
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		write_at(names[i], "x", 1, 1);
	see(0, 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_true(exists(names[i]));
}

static void unsafe_directories_are_not_used(void **state)
{
	char elsewhere[128];

	/* A link to a directory of ours. */
	snprintf(elsewhere, sizeof(elsewhere), "%s/elsewhere", base);
	assert_int_equal(mkdir(elsewhere, 0700), 0);
	assert_int_equal(symlink(elsewhere, dir), 0);
	assert_true(publish_fails() < 0);
	see(0, 0);
	assert_int_equal(rmdir(elsewhere), 0); /* empty */
	assert_int_equal(unlink(dir), 0);

	/* One where others may put files. */
	run_withdraw(publish());
	write_at("1-1", "x", 1, 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(chmod(dir, i ? 0720 : 0702), 0);
		assert_int_equal(publish_fails(), -EPERM);
		see(0, 0);
		assert_true(exists("1-1")); /* nor tidied */
	}
	assert_int_equal(chmod(dir, 0700), 0);
	see(0, 0);
	assert_false(exists("1-1"));

	/* A file; and no parent. */
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(close(open(dir, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)), 0);
	assert_int_equal(publish_fails(), -ENOTDIR);
	see(0, 0);
	assert_int_equal(unlink(dir), 0);
	snprintf(dir, sizeof(dir), "%s/no/minivmm", base);
	assert_int_equal(publish_fails(), -ENOENT);
}

static void see_one_and_one_stale(void)
{
	see(1, 0);
	assert_true(exists("1-1"));
	assert_int_equal(publish_fails(), -EPERM); /* root's is not theirs */
}

static void others_look_and_do_not_touch(void **state)
{
	struct run *run;

	if (geteuid())
		skip();
	run = publish();
	assert_int_equal(chmod(base, 0755), 0);
	write_at("1-1", "", 0, 0);
	as_nobody(see_one_and_one_stale);
	see(1, 0);
	assert_false(exists("1-1"));
	run_withdraw(run);
}

static void see_none(void)
{
	see(0, 0);
}

/* Of the three who read, only root looks into a directory of somebody else. */
static void others_directories(void **state)
{
	int held;

	if (geteuid())
		skip();
	run_withdraw(publish());
	assert_int_equal(chmod(base, 0755), 0);
	write_at("1-1", "minivmm 1\nvm pid=1\n", 19, RUN_TEXT_BYTES);
	held = hold("1-1");
	assert_int_equal(chown(dir, 1234, 1234), 0);
	as_nobody(see_none);
	see(0, 1); /* the file's owner is not the directory's */
	assert_int_equal(fchown(held, 1234, 1234), 0);
	see(1, 0);
	assert_int_equal(look_at(dir)->last.uid, 1234);
	close(held);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(hostile_files_are_counted),
		TEST(what_is_no_file_is_left_alone),
		TEST(other_names_are_not_entries),
		TEST(unsafe_directories_are_not_used),
		TEST(others_look_and_do_not_touch),
		TEST(others_directories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

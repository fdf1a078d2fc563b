/* SPDX-License-Identifier: MIT */
/* The run directory: entries come, count, go and grow stale; and who else may put what there. */
#include "util/run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "util/log.h"
#include "util/util.h"

#define NOBODY 65534

static char base[64], dir[128];

static int make_base(void **state)
{
	/* What is in memory, as /run is, where there is such a thing. */
	strcpy(base, access("/dev/shm", W_OK) ? "/tmp/minivmm-run-XXXXXX"
					      : "/dev/shm/minivmm-run-XXXXXX");
	if (!mkdtemp(base))
		return -1;
	snprintf(dir, sizeof(dir), "%s/minivmm", base);
	return 0;
}

static int remove_base(void **state)
{
	char command[160];

	snprintf(command, sizeof(command), "rm -rf '%s'", base);
	return system(command);
}

struct seen {
	struct run_reader reader;
	struct run_found last;
	unsigned int count;
};

static void note(struct run_reader *reader, const struct run_found *found)
{
	struct seen *seen = CONTAINER_OF(reader, struct seen, reader);

	seen->last = *found;
	seen->count++;
}

static const struct seen *look_at(const char *path)
{
	static struct seen seen;

	memset(&seen, 0, sizeof(seen));
	seen.reader.found = note;
	assert_int_equal(run_read_in(&seen.reader, path), 0);
	return &seen;
}

static void see(unsigned int count, unsigned int unreadable)
{
	const struct seen *seen = look_at(dir);

	assert_int_equal(seen->count, count);
	assert_int_equal(seen->reader.unreadable, unreadable);
}

static struct run_entry example(void)
{
	return (struct run_entry){
		.name = "web", .nic_count = 2, .nics = {{.name = "net0"}, {.name = "net1"}},
	};
}

static struct run *publish(void)
{
	struct run_entry entry = example();
	struct run *run = NULL;

	assert_int_equal(run_publish_in(dir, &entry, &run), 0);
	return run;
}

/* "DIR/PID-START" of this process. */
static const char *own_path(void)
{
	static char path[256];
	struct run_entry entry = look_at(dir)->last.entry;

	snprintf(path, sizeof(path), "%s/%u-%llu", dir, entry.pid,
		 (unsigned long long)entry.start);
	return path;
}

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

static void comes_and_goes(void **state)
{
	struct run *run;
	struct stat st;

	see(0, 0); /* there is no directory */
	run = publish();
	see(1, 0);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, geteuid() ? 0700 : 0755);
	assert_int_equal(stat(own_path(), &st), 0);
	assert_int_equal(st.st_mode & 07777, geteuid() ? 0600 : 0644);
	assert_int_equal(st.st_size, RUN_TEXT_BYTES + 2 * sizeof(struct run_nic_live));
	run_withdraw(run);
	see(0, 0);
	assert_int_equal(rmdir(dir), 0); /* nothing is left in it */
	run_withdraw(NULL);
}

static void says_who_it_is(void **state)
{
	struct run *run = publish();
	const struct run_found *found = &look_at(dir)->last;
	struct stat st;

	assert_string_equal(found->entry.name, "web");
	assert_int_equal(found->entry.pid, getpid());
	assert_int_equal(found->uid, geteuid());
	assert_int_equal(stat("/proc/self/ns/net", &st), 0);
	assert_int_equal(found->entry.netns, st.st_ino);
	assert_true(found->entry.start > 0);
	assert_int_equal(found->entry.nic_count, 2);
	assert_string_equal(found->entry.nics[1].name, "net1");
	run_withdraw(run);
}

/* ps knows when a process started; so do we, to the second. */
static void says_since_when(void **state)
{
	struct run *run = publish();
	unsigned long long seconds, uptime;
	char command[64];
	FILE *ps;

	snprintf(command, sizeof(command), "ps -o etimes= -p %d", getpid());
	ps = popen(command, "r");
	if (!ps || fscanf(ps, "%llu", &seconds) != 1) {
		run_withdraw(run);
		skip();
	}
	pclose(ps);
	ps = fopen("/proc/uptime", "r");
	assert_int_equal(fscanf(ps, "%llu", &uptime), 1);
	fclose(ps);
	assert_in_range(look_at(dir)->last.entry.start / (unsigned long long)sysconf(_SC_CLK_TCK) +
			seconds, uptime - 2, uptime + 2);
	run_withdraw(run);
}

static void counts_for_others_to_see(void **state)
{
	struct run *run = publish();
	const struct run_found *found;

	run_count(&run_live(run, 0)->rx.frames, 3);
	run_count(&run_live(run, 1)->tx.bytes, 1ull << 40);
	run_count(&run_live(run, 1)->tx.bytes, 2);
	run_set(&run_live(run, 1)->mac, run_mac((const uint8_t[6]){2, 0, 0, 0, 0, 9}));
	found = &look_at(dir)->last;
	assert_int_equal(run_get(&found->live[0].rx.frames), 3);
	assert_int_equal(run_get(&found->live[0].tx.frames), 0);
	assert_int_equal(run_get(&found->live[1].tx.bytes), (1ull << 40) + 2);
	assert_int_equal(run_get(&found->live[1].mac), 0x020000000009);
	run_withdraw(run);
}

static pid_t start_machine(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		publish();
		if (write(ready[1], "x", 1) == 1)
			pause();
		_exit(1);
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	close(ready[1]);
	return pid;
}

static void killed_is_not_listed(void **state)
{
	pid_t pids[2] = {start_machine(), start_machine()};
	char name[256];

	see(2, 0);
	kill(pids[0], SIGKILL);
	assert_int_equal(waitpid(pids[0], NULL, 0), pids[0]);
	see(1, 0);
	assert_int_equal(look_at(dir)->last.entry.pid, pids[1]);
	snprintf(name, sizeof(name), "%s", own_path());
	kill(pids[1], SIGKILL);
	assert_int_equal(waitpid(pids[1], NULL, 0), pids[1]);
	assert_int_equal(access(name, F_OK), 0);
	see(0, 0);
	assert_int_equal(rmdir(dir), 0); /* both were removed, by whoever looked */
}

/* A reader may lock as much as it likes. */
static void readers_locks_do_not_count(void **state)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	pid_t pid = start_machine();
	int fd = open(own_path(), O_RDONLY | O_CLOEXEC);

	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), -1);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	see(1, 0);
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	see(0, 0);
	close(fd);
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

static int publish_fails(void)
{
	struct run_entry entry = example();
	struct run *run = NULL;
	int r = run_publish_in(dir, &entry, &run);

	assert_true(r < 0);
	assert_null(run);
	return r;
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

/* What must be done by somebody else, in a process of its own. */
static void as_nobody(void (*act)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
			_exit(77);
		act();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
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

/* Where files may not be that large, the kernel would send a deadly signal. */
static void survives_a_limit(void **state)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct rlimit limit = {.rlim_cur = 4096, .rlim_max = RLIM_INFINITY};

		setrlimit(RLIMIT_FSIZE, &limit);
		assert_int_equal(publish_fails(), -EFBIG);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	see(0, 0);
}

static void the_umask_is_no_matter(void **state)
{
	mode_t old = umask(0077);
	struct run *run = publish();
	struct stat st;

	umask(old);
	assert_int_equal(stat(dir, &st), 0);
	assert_int_equal(st.st_mode & 07777, geteuid() ? 0700 : 0755);
	see(1, 0);
	run_withdraw(run);
}

/* In the user's directory, or quietly nowhere; as root this would be about this machine's own. */
static void publish_by_environment(void)
{
	struct run_entry entry = example();
	struct run *run = NULL;

	setenv("XDG_RUNTIME_DIR", base, 1);
	assert_int_equal(run_publish(&entry, &run), 0);
	see(1, 0);
	run_withdraw(run);
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	assert_int_equal(run_publish(&entry, &run), -ENOENT);
	unsetenv("XDG_RUNTIME_DIR");
	assert_int_equal(run_publish(&entry, &run), -ENOENT);
}

static void is_found_by_the_environment(void **state)
{
	if (geteuid()) {
		publish_by_environment();
		return;
	}
	assert_int_equal(chown(base, NOBODY, NOBODY), 0);
	as_nobody(publish_by_environment);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_base, remove_base)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(comes_and_goes),
		TEST(says_who_it_is),
		TEST(says_since_when),
		TEST(counts_for_others_to_see),
		TEST(killed_is_not_listed),
		TEST(readers_locks_do_not_count),
		TEST(hostile_files_are_counted),
		TEST(what_is_no_file_is_left_alone),
		TEST(other_names_are_not_entries),
		TEST(unsafe_directories_are_not_used),
		TEST(others_look_and_do_not_touch),
		TEST(others_directories),
		TEST(survives_a_limit),
		TEST(the_umask_is_no_matter),
		TEST(is_found_by_the_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

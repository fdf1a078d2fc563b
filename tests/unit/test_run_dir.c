/* SPDX-License-Identifier: MIT */
/* The run directory: entries come, count, go and grow stale. */
#include "util/run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/run_dir_fixture.h"

/* "DIR/PID-START" of this process. */
static const char *own_path(void)
{
	static char path[256];
	struct run_entry entry = look_at(dir)->last.entry;

	snprintf(path, sizeof(path), "%s/%u-%llu", dir, entry.pid,
		 (unsigned long long)entry.start);
	return path;
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

	counter_add(&run_live(run, 0)->rx.frames, 3);
	counter_add(&run_live(run, 1)->tx.bytes, 1ull << 40);
	counter_add(&run_live(run, 1)->tx.bytes, 2);
	counter_set(&run_live(run, 1)->mac, run_mac((const uint8_t[6]){2, 0, 0, 0, 0, 9}));
	found = &look_at(dir)->last;
	assert_int_equal(counter_get(&found->live[0].rx.frames), 3);
	assert_int_equal(counter_get(&found->live[0].tx.frames), 0);
	assert_int_equal(counter_get(&found->live[1].tx.bytes), (1ull << 40) + 2);
	assert_int_equal(counter_get(&found->live[1].mac), 0x020000000009);
	run_withdraw(run);
}

struct caller {
	struct run_reader reader;
	int fd; /* of the connection, or -errno */
};

static void call_it(struct run_reader *reader, const struct run_found *found)
{
	CONTAINER_OF(reader, struct caller, reader)->fd = run_connect(found, 1);
}

static int call(void)
{
	struct caller caller = {.reader.found = call_it};

	assert_int_equal(run_read_in(&caller.reader, dir), 0);
	return caller.fd;
}

static void can_be_asked(void **state)
{
	struct run *run = publish();
	int listening, near, far;
	char byte = 0;

	assert_int_equal(call(), -ENOENT);
	listening = run_listen(run);
	assert_true(listening >= 0);
	assert_int_equal(run_listen(run), -EADDRINUSE);
	near = call();
	assert_true(near >= 0);
	see(1, 0); /* it is no entry itself */
	far = accept(listening, NULL, NULL);
	assert_int_equal(write(far, "!", 1), 1);
	assert_int_equal(read(near, &byte, 1), 1);
	assert_int_equal(byte, '!');
	close(near);
	close(far);
	close(listening);
	assert_int_equal(call(), -ECONNREFUSED);
	run_withdraw(run);
	assert_int_equal(rmdir(dir), 0); /* nothing is left in it */
}

/* One that has stopped: as many as may wait for it to accept them do, and the next is not kept. */
static void nobody_waits_for_ever(void **state)
{
	struct run *run = publish();
	int listening = run_listen(run), fds[64], count = 0;
	char byte;

	alarm(60);
	while (count < 64 && (fds[count] = call()) >= 0)
		count++;
	assert_in_range(count, 1, 63);
	assert_int_equal(fds[count], -EAGAIN);
	assert_int_equal(read(fds[0], &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
	alarm(0);
	while (count--)
		close(fds[count]);
	close(listening);
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
		if (run_listen(publish()) >= 0 && write(ready[1], "x", 1) == 1)
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(comes_and_goes),
		TEST(says_who_it_is),
		TEST(says_since_when),
		TEST(counts_for_others_to_see),
		TEST(can_be_asked),
		TEST(nobody_waits_for_ever),
		TEST(killed_is_not_listed),
		TEST(readers_locks_do_not_count),
		TEST(survives_a_limit),
		TEST(the_umask_is_no_matter),
		TEST(is_found_by_the_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

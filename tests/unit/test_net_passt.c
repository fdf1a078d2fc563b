/* SPDX-License-Identifier: MIT */
/* passt as a process: what it is given, how it ends, and every line when it does not start. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "capture.h"
#include "net/net.h"
#include "util/log.h"
#include "util/util.h"

/* A passt in place of the real one: a shell script, first on PATH. */
#define READY "echo $$ >/proc/self/fd/4; "
#define UNTIL_CLOSED "exec cat <&3 >/dev/null"

static char folder[] = "/tmp/test_net_passt.XXXXXX", pid_path[64], args_path[64];

static void fake_passt(const char *script)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/passt", folder);
	unlink(pid_path);
	unlink(args_path);
	unlink(path);
	file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file, "#!/bin/sh\necho $$ >%s\n%s\n", pid_path, script);
	fclose(file);
	chmod(path, 0755);
}

static void no_passt(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/passt", folder);
	unlink(path);
	unlink(pid_path);
}

static size_t read_text(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "r");
	size_t len = file ? fread(text, 1, size - 1, file) : 0;

	if (file)
		fclose(file);
	text[len] = 0;
	return len;
}

/* Of the passt that ran last, from when it ran; 0 if there was none. */
static pid_t passt_pid(void)
{
	char text[32];

	return read_text(pid_path, text, sizeof(text)) ? (pid_t)atoi(text) : 0;
}

static bool has_ended(void)
{
	return kill(passt_pid(), 0) < 0 && errno == ESRCH;
}

static int set_path(const char *more)
{
	char path[64];

	snprintf(path, sizeof(path), "%s%s", folder, more);
	return setenv("PATH", path, 1);
}

static int setup(void **state)
{
	if (!mkdtemp(folder))
		return -1;
	snprintf(pid_path, sizeof(pid_path), "%s/pid", folder);
	snprintf(args_path, sizeof(args_path), "%s/args", folder);
	return set_path(":/usr/bin:/bin");
}

static int teardown(void **state)
{
	no_passt();
	unlink(args_path);
	return rmdir(folder);
}

static struct net *open_ok(const struct net_options *opts)
{
	struct net *net = NULL;

	capture_start();
	if (net_open(opts, &net))
		fail_msg("%s", capture_end());
	assert_string_equal(capture_end(), "");
	return net;
}

/* One line that has both texts in it, and nobody left behind. */
static void open_fails(const struct net_options *opts, const char *names, const char *says)
{
	struct net *net = NULL;
	int r;

	capture_start();
	r = net_open(opts, &net);
	capture_end();
	assert_true(r < 0);
	assert_null(net);
	assert_one_line(capture_text);
	assert_says(capture_text, names);
	assert_says(capture_text, says);
	if (passt_pid())
		assert_true(has_ended());
}

static const struct net_options user = { .user = true };

/* Its command line; a socket and its PID file open beside the standard three; no terminal. */
static void starts_it(void **state)
{
	struct net_options opts = user;
	char text[4096], want[4096], script[512];
	struct net *net;

	assert_int_equal(dup2(STDERR_FILENO, 40), 40); /* somebody's, and open on exec */
	opts.forwards[0] = (struct net_forward){ .host_port = 2222, .guest_port = 22 };
	opts.forwards[1] = (struct net_forward){ true, "127.0.0.1", 53, 5353 };
	opts.forward_count = 2;
	snprintf(script, sizeof(script),
		 "echo \"$@\" >%s; test -S /proc/$$/fd/3 && test -p /proc/$$/fd/4 && "
		 "echo fds >>%s; fds=$(for fd in 0 1 40; do readlink /proc/$$/fd/$fd; done); "
		 "echo \"$fds\" >>%s; " READY UNTIL_CLOSED, args_path, args_path, args_path);
	fake_passt(script);
	net = open_ok(&opts);
	read_text(args_path, text, sizeof(text));
	snprintf(want, sizeof(want), "--foreground --quiet --fd 3 --pid /proc/self/fd/4 "
		 "--mtu 16384 --tcp-ports 2222:22 --udp-ports 127.0.0.1/53:5353\nfds\n"
		 "/dev/null\n/dev/null\n");
	assert_string_equal(text, want);
	assert_int_equal(net->mtu, 16384);
	assert_int_equal(net->offloads, 0);
	assert_string_equal(net->ifname, "");
	assert_false(has_ended());
	net_close(net);
	assert_true(has_ended());
	close(40);
}

static void many_at_a_time(void **state)
{
	struct net *nets[4];

	fake_passt(READY UNTIL_CLOSED);
	for (unsigned int i = 0; i < 4; i++)
		nets[i] = open_ok(&user);
	/* the first ends though the others were started later: none has its socket */
	for (unsigned int i = 0; i < 4; i++)
		net_close(nets[i]);
	assert_true(has_ended());
}

static void ends_one_that_does_not(void **state)
{
	struct net *net;

	fake_passt(READY "trap '' TERM HUP INT; while :; do sleep 1; done");
	net = open_ok(&user);
	net_close(net);
	assert_true(has_ended());
}

/* Killed as by kill -9, whoever started it: the socket is what it lives by. */
static void ends_with_us(void **state)
{
	struct net *net;
	pid_t pid;

	fake_passt(READY UNTIL_CLOSED);
	pid = fork();
	if (pid == 0) {
		if (net_open(&user, &net) == 0)
			raise(SIGKILL);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	for (int i = 0; i < 5000 && !has_ended(); i++)
		usleep(1000);
	assert_true(has_ended());
}

static void is_lost(struct net *net, const char *why)
{
	uint8_t packet[2000] = { 0 };
	struct iovec iov = { packet, 100 };
	struct pollfd pfd = { .fd = net->fds[0], .events = POLLIN };

	assert_int_equal(poll(&pfd, 1, 5000), 1);
	assert_int_equal(net->ops->recv(net, 0, &iov, 1), -ENODEV);
	assert_string_equal(net->lost, why);
	assert_int_equal(net->ops->send(net, 0, &iov, 1), -ENODEV);
	assert_true(has_ended());
	net_close(net);
}

static void tells_how_it_ended(void **state)
{
	uint8_t packet[100] = { 0 };
	struct iovec iov = { packet, sizeof(packet) };
	struct net *net;

	fake_passt(READY UNTIL_CLOSED);
	net = open_ok(&user);
	kill(passt_pid(), SIGKILL);
	is_lost(net, "passt was killed by signal 9");
	fake_passt("echo early >&2; " READY "head -c 1 <&3 >/dev/null; echo first >&2; "
		   "printf 'last\\033[2J\\twords\\n' >&2; "
		   "echo 'Failed to send 5 bytes to syslog' >&2; exit 3");
	net = open_ok(&user);
	assert_int_equal(net->ops->send(net, 0, &iov, 1), sizeof(packet));
	is_lost(net, "passt ended with status 3: last?[2J?words");
	fake_passt(READY "exit 0");
	is_lost(open_ok(&user), "passt ended with status 0 and said nothing");
	fake_passt(READY "yes 0123456789012345678901234567890123456789 | head -c 300000 >&2");
	net = open_ok(&user);
	for (int i = 0; i < 5000 && kill(passt_pid(), 0) == 0; i++)
		usleep(1000); /* it does not hang on what nobody reads; a zombie it stays */
	net_close(net);
}

static void names_why_it_did_not_start(void **state)
{
	no_passt();
	set_path("");
	open_fails(&user, "passt", "not installed (apt install passt)");
	set_path(":/usr/bin:/bin");
	fake_passt("echo 'Failed to send 47 bytes to syslog' >&2; "
		   "echo 'No external routable interface for IPv6' >&2; "
		   "echo 'External interface not usable' >&2; exit 1");
	open_fails(&user, "net: user: passt ended with status 1: ",
		   "External interface not usable\n");
	fake_passt("printf 'no \\377 newline' >&2; exit 4");
	open_fails(&user, "status 4", ": no ? newline\n");
	fake_passt("exit 5");
	open_fails(&user, "status 5", "said nothing");
	fake_passt("kill -11 $$");
	open_fails(&user, "net: user: passt was killed", "signal 11");
	fake_passt("head -c 1000 /dev/zero >&2; exit 6");
	open_fails(&user, "status 6", "said nothing");
}

static void names_one_that_is_not_ready(void **state)
{
	fake_passt(UNTIL_CLOSED);
	open_fails(&user, "net: user: passt", "not get ready within 30 s");
}

static int listener(int type, uint16_t *port)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	if (type == SOCK_STREAM)
		assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	*port = ntohs(addr.sin_port);
	return fd;
}

static void names_the_port_in_use(void **state)
{
	struct net_options opts = user;
	uint16_t port;
	char want[64];
	int fd = listener(SOCK_STREAM, &port);

	fake_passt("echo 'Failed to bind any port' >&2; exit 1");
	opts.forwards[0] = (struct net_forward){ .host_port = port, .guest_port = 22 };
	opts.forward_count = 1;
	snprintf(want, sizeof(want), "hostfwd=tcp:%u:22: ", port);
	open_fails(&opts, want, "in use");
	close(fd);
	open_fails(&opts, "net: user: passt", "Failed to bind any port");
	fd = listener(SOCK_DGRAM, &port);
	opts.forwards[0] = (struct net_forward){ true, "127.0.0.1", port, 53 };
	snprintf(want, sizeof(want), "hostfwd=udp:127.0.0.1:%u:53: ", port);
	open_fails(&opts, want, "in use");
	close(fd);
	opts.forwards[0] = (struct net_forward){ false, "198.51.100.1", port, 53 };
	open_fails(&opts, "hostfwd=tcp:198.51.100.1:", "name an address of this host");
}

/* --- socket= --- */

static void connects_to_a_socket(void **state)
{
	struct net_options opts = { .user = true };
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;
	uint8_t packet[100];
	struct iovec iov = { packet, sizeof(packet) };
	char long_path[200];
	struct net *net;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/socket", folder);
	opts.socket = addr.sun_path;
	no_passt();
	open_fails(&opts, addr.sun_path, "No such file");
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	open_fails(&opts, addr.sun_path, "passt -f -s ");
	assert_int_equal(listen(fd, 1), 0);
	net = open_ok(&opts);
	assert_int_equal(net->mtu, 0);
	peer = accept(fd, NULL, NULL);
	assert_int_equal(write(peer, "\0\0\0\4word", 8), 8);
	assert_int_equal(net->ops->recv(net, 0, &iov, 1), 12 + 4);
	assert_memory_equal(packet + 12, "word", 4);
	close(peer);
	assert_int_equal(net->ops->recv(net, 0, &iov, 1), -ENODEV);
	assert_says(net->lost, "/socket closed the connection");
	net_close(net);
	close(fd);
	unlink(addr.sun_path);
	memset(long_path, 'x', sizeof(long_path));
	long_path[sizeof(long_path) - 1] = 0;
	opts.socket = long_path;
	open_fails(&opts, "xxxx", "too long");
}

static void goes_alone(void **state)
{
	struct net_options opts = { .user = true, .tap = "t" };

	no_passt();
	open_fails(&opts, "user", "neither tap= nor bridge= nor fd=");
	opts = (struct net_options){ .user = true, .fds = { 5 }, .fd_count = 1 };
	open_fails(&opts, "user", "neither tap= nor bridge= nor fd=");
}

#define TEST(name) cmocka_unit_test_teardown(name, capture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(starts_it),
		TEST(many_at_a_time),
		TEST(ends_one_that_does_not),
		TEST(ends_with_us),
		TEST(tells_how_it_ended),
		TEST(names_why_it_did_not_start),
		TEST(names_one_that_is_not_ready),
		TEST(names_the_port_in_use),
		TEST(connects_to_a_socket),
		TEST(goes_alone),
	};

	return cmocka_run_group_tests_name("net_passt", tests, setup, teardown);
}

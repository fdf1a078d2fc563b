/* SPDX-License-Identifier: MIT */
/* /dev/vhost-net: who gets it, and what is said where it can not be had. */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"
#include "util/log.h"

#define NOBODY 65534
#define CANNOT 77
#define VHOST_PATH "/dev/vhost-net"

/* A /dev of our own, with the TAPs' device, and perhaps a thing in vhost's place; else exits. */
static void make_dev(mode_t mode, dev_t dev)
{
	umask(0);
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/dev", "tmpfs", 0, NULL) || mkdir("/dev/net", 0755) ||
	    mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200)) ||
	    (mode && mknod(VHOST_PATH, S_IFCHR | mode, dev)))
		_exit(CANNOT);
}

static void in_child(void (*run)(void))
{
	int status;
	pid_t pid;

	assert_true(netns_run("ip tuntap add mine mode tap user %d && ip link set mine up",
			      NOBODY));
	pid = fork();
	if (pid == 0) {
		run();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT)
		skip();
	assert_int_equal(status, 0);
}

/* Whoever wants it if it can be had does without, and says nothing, but to -v. */
static void does_without(void)
{
	struct net_options opts = { .tap = "mine" };
	const char *said;
	struct net *net;

	stderr_begin();
	assert_int_equal(net_open(&opts, &net), 0);
	assert_false(net->vhost);
	net_close(net);
	said = stderr_end();
	assert_string_equal(said, "");
	log_set_level(LOG_LEVEL_DEBUG);
	stderr_begin();
	assert_int_equal(net_open(&opts, &net), 0);
	net_close(net);
	said = stderr_end();
	assert_non_null(strstr(said, "mine: frames go through minivmm: " VHOST_PATH));
}

static void missing(void)
{
	struct net_options opts = { .tap = "mine", .vhost = NET_VHOST_ON };

	make_dev(0, 0);
	open_fails(&opts, -ENOENT, "vhost=on: " VHOST_PATH ": No such file", "modprobe vhost_net",
		   NULL);
	opts.tap = NULL;
	opts.queues = 4;
	open_fails(&opts, -ENOENT, "modprobe vhost_net", NULL);
	does_without();
}

static void names_the_missing_driver(void **state)
{
	in_child(missing);
}

static void forbidden(void)
{
	struct net_options opts = { .tap = "mine", .vhost = NET_VHOST_ON };

	make_dev(0600, makedev(10, 238));
	if (setresuid(NOBODY, NOBODY, NOBODY) < 0)
		_exit(CANNOT);
	open_fails(&opts, -EACCES, "vhost=on: " VHOST_PATH ": Permission denied", "run as root",
		   "setfacl", NULL);
	does_without();
}

static void names_the_missing_right(void **state)
{
	in_child(forbidden);
}

static void something_else(void)
{
	struct net_options opts = { .tap = "mine", .vhost = NET_VHOST_ON };

	make_dev(0666, makedev(1, 3)); /* null */
	open_fails(&opts, -ENOTTY, "vhost=on: " VHOST_PATH ": Inappropriate ioctl", NULL);
	does_without();
}

static void refuses_what_is_no_vhost(void **state)
{
	in_child(something_else);
}

/* A TAP that is handed in stays the caller's. */
static void keeps_the_callers_file(void)
{
	struct net_options opts = { .vhost = NET_VHOST_ON, .fd_count = 1 };

	make_dev(0, 0);
	opts.fds[0] = open_tap("mine", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	open_fails(&opts, -ENOENT, "modprobe vhost_net", NULL);
	assert_true(fcntl(opts.fds[0], F_GETFD) >= 0);
}

/* All queues that were on are on, and the same files do for another try. */
static void keeps_the_callers_queues(void)
{
	const int flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	struct net_options opts = { .vhost = NET_VHOST_ON, .fd_count = 2 };
	struct ifreq detach = { .ifr_flags = IFF_DETACH_QUEUE };
	struct net *net;

	make_dev(0, 0);
	for (unsigned int i = 0; i < 2; i++)
		opts.fds[i] = open_tap("given", flags);
	open_fails(&opts, -ENOENT, "modprobe vhost_net", NULL);
	assert_true(shown("given", "numqueues 2 numdisabled 0"));
	opts.vhost = NET_VHOST_OFF;
	for (unsigned int i = 0; i < 2; i++)
		assert_int_equal(ioctl(opts.fds[i], TUNSETQUEUE, &detach), 0);
	assert_int_equal(net_open(&opts, &net), 0);
	assert_true(shown("given", "numqueues 1 numdisabled 1"));
	assert_int_equal(net->ops->set_queues(net, 2), 0);
	assert_true(shown("given", "numqueues 2 numdisabled 0"));
	net_close(net);
	assert_false(exists("given"));
}

static void leaves_the_queues_of_a_given_tap(void **state)
{
	in_child(keeps_the_callers_queues);
}

static void leaves_a_given_tap(void **state)
{
	in_child(keeps_the_callers_file);
}

static void one_for_each_queue(void **state)
{
	struct net_options opts = { .queues = 3, .vhost = NET_VHOST_ON };
	struct net *net;

	if (access(VHOST_PATH, R_OK | W_OK) < 0)
		skip();
	assert_int_equal(net_open(&opts, &net), 0);
	assert_true(net->vhost);
	for (unsigned int i = 0; i < 3; i++)
		assert_true(fcntl(net->vhost_fds[i], F_GETFD) & FD_CLOEXEC);
	net_close(net);
	opts.vhost = NET_VHOST_OFF;
	assert_int_equal(net_open(&opts, &net), 0);
	assert_false(net->vhost);
	net_close(net);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(names_the_missing_driver, netns_enter),
		cmocka_unit_test_setup(names_the_missing_right, netns_enter),
		cmocka_unit_test_setup(refuses_what_is_no_vhost, netns_enter),
		cmocka_unit_test_setup(leaves_a_given_tap, netns_enter),
		cmocka_unit_test_setup(leaves_the_queues_of_a_given_tap, netns_enter),
		cmocka_unit_test_setup(one_for_each_queue, netns_enter),
	};

	return netns_skip() ? 77 : cmocka_run_group_tests(tests, NULL, NULL);
}

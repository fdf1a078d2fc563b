/* SPDX-License-Identifier: MIT */
/* pcap=: what is in the file, as a reader of our own, tcpdump and tshark see it; and all that can
 * happen to a file. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "netns.h"
#include "nic.h"

#define READER "/usr/bin/python3 " PCAPNG_PY

static uint8_t frame[NIC_FRAME_MAX];
static char folder[] = "/tmp/minivmm-capture-XXXXXX", path[64];

static int make_folder(void **state)
{
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	return netns_run("rm -rf %s", folder) ? 0 : -1;
}

static int enter(void **state)
{
	snprintf(path, sizeof(path), "%s/pcap", folder);
	unlink(path);
	return netns_enter(state);
}

static const struct edge_options *captured(void)
{
	static struct edge_options opts;

	opts.pcap = path;
	return &opts;
}

/* What the reader says of the file, but for the IPv6 multicasts of the host's own. */
static char *read_back(void)
{
	static char text[4 << 20];
	char command[256];
	FILE *out;
	size_t len;

	snprintf(command, sizeof(command), READER " %s | grep -v 'frame.* 3333.*86dd'", path);
	out = popen(command, "r");
	assert_non_null(out);
	len = fread(text, 1, sizeof(text) - 1, out);
	text[len] = '\0';
	assert_int_equal(pclose(out), 0);
	return text;
}

static void hex(char *out, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sprintf(out + 2 * i, "%02x", bytes[i]);
}

/* The next line is this frame, of now. */
static void assert_frame(char **lines, const char *way, size_t len)
{
	static char want[2 * NIC_FRAME_MAX + 1];
	char *line = strsep(lines, "\n"), *rest;
	double when;

	assert_non_null(line);
	assert_int_equal(strncmp(line, "frame ", 6), 0);
	assert_int_equal(strncmp(line + 6, way, strlen(way)), 0);
	when = strtod(line + 6 + strlen(way), &rest);
	assert_true(when > (double)time(NULL) - 120 && when < (double)time(NULL) + 1);
	assert_int_equal(strtoul(rest, &rest, 10), len);
	hex(want, frame, len);
	assert_string_equal(rest + 1, want);
}

static const struct {
	size_t len;
	uint16_t tag;
} kinds[] = { { 60, 0 }, { 61, 0 }, { 62, 0x2005 }, { 1515, 1 }, { 9014, 0 } };

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* Each kind, to the host and back. */
static void send_kinds(const struct nic *nic, int wire)
{
	for (unsigned int i = 0; i < KINDS; i++) {
		make_frame(frame, kinds[i].len, NIC_MAC, kinds[i].tag);
		assert_int_equal(nic_send(nic, frame, kinds[i].len, 0), 0);
		make_frame(frame, kinds[i].len, OTHER_MAC, kinds[i].tag);
		assert_int_equal(wire_send(wire, frame, kinds[i].len, 0), 0);
	}
}

static void has_every_frame(void **state)
{
	struct nic nic;
	char *lines;
	int wire;

	assert_true(netns_run("ip tuntap add t0 mode tap && ip link set t0 mtu 9000"));
	nic = nic_open("t0", NULL, captured());
	wire = wire_open("t0");
	send_kinds(&nic, wire);
	close(wire);
	nic_close(&nic);
	lines = read_back();
	assert_string_equal(strsep(&lines, "\n"), "section minivmm");
	assert_string_equal(strsep(&lines, "\n"), "interface t0 262144");
	for (unsigned int i = 0; i < KINDS; i++) {
		make_frame(frame, kinds[i].len, NIC_MAC, kinds[i].tag);
		assert_frame(&lines, "in ", kinds[i].len);
		make_frame(frame, kinds[i].len, OTHER_MAC, kinds[i].tag);
		assert_frame(&lines, "out ", kinds[i].len);
	}
	assert_int_equal(strncmp(lines, "counts ", 7), 0);
	assert_non_null(strstr(lines, " 0\n"));
}

static void others_read_it(void **state)
{
	struct nic nic = nic_open("t0", NULL, captured());
	int wire = wire_open("t0");
	struct stat st;

	make_frame(frame, 100, NIC_MAC, 0x2005);
	assert_int_equal(nic_send(&nic, frame, 100, 0), 0);
	make_tcp(frame, 1400, OTHER_MAC);
	assert_int_equal(wire_send(wire, frame, 1400, 0), 0);
	close(wire);
	nic_close(&nic);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	if (!netns_run("which tcpdump >/dev/null"))
		skip();
	assert_true(netns_run("tcpdump -e -n -r %s 2>/dev/null | "
			      "grep -q '02:11:22:33:44:55.*vlan 5'", path));
	assert_true(netns_run("tcpdump -n -r %s 2>/dev/null | "
			      "grep -q '192.0.2.7.80 > 192.0.2.8.90'", path));
	if (!netns_run("which tshark >/dev/null"))
		return;
	assert_true(netns_run("tshark -r %s -T fields -e frame.packet_flags_direction -e frame.len "
			      "-e frame.interface_name 2>/dev/null | grep -qP '^0x0+1\\t100\\tt0$'",
			      path));
	assert_true(netns_run("tshark -r %s -T fields -e frame.packet_flags_direction -e frame.len "
			      "2>/dev/null | grep -qP '^0x0+2\\t1400$'", path));
}

/* What the guest sends before the guard; from more than fits into a block of the ring. */
static void has_many_frames(void **state)
{
	struct edge_options opts = *captured();
	unsigned long long received, dropped;
	unsigned int count = 0;
	struct nic nic;
	char *lines;

	opts.guard.on = true;
	nic = nic_open("t0", NULL, &opts);
	make_frame(frame, 1000, OTHER_MAC, 0);
	for (int i = 0; i < 700; i++) {
		assert_int_equal(nic_send(&nic, frame, 1000, 0), 0);
		usleep(100);
	}
	nic_close(&nic);
	for (char *at = lines = read_back(); (at = strstr(at, "frame in ")); at++)
		count++;
	lines = strstr(lines, "counts ");
	assert_int_equal(sscanf(lines, "counts %llu %llu", &received, &dropped), 2);
	assert_int_equal(count, 700);
	assert_int_equal(dropped, 0);
	assert_true(received >= 700);
}

/* Until it has had nothing to read for a while. */
static void wait_for_reader(void)
{
	char copy[80];
	struct stat st = { 0 };
	off_t before;

	snprintf(copy, sizeof(copy), "%s.copy", path);
	do {
		before = st.st_size;
		usleep(1000000);
	} while (stat(copy, &st) < 0 || st.st_size > before);
}

/* A FIFO that nobody reads is the slowest of disks: the machine goes on, and the count tells. */
static void never_waits(void **state)
{
	unsigned long long received = 0, dropped = 0, frames = 0;
	static char text[256];
	struct nic nic;
	const char *said;
	char line[64];
	FILE *report;
	pid_t reader;
	int fd;

	assert_int_equal(mkfifo(path, 0600), 0);
	stderr_begin();
	nic = nic_open("t0", NULL, captured());
	make_frame(frame, 1500, NIC_MAC, 0);
	for (int i = 0; i < 10000; i++)
		assert_int_equal(nic_send(&nic, frame, 1500, 0), 0);
	reader = fork();
	if (reader == 0) {
		fd = open(path, O_RDONLY);
		snprintf(text, sizeof(text), "%s.copy", path);
		dup2(open(text, O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
		dup2(fd, 0);
		execlp("cat", "cat", (char *)NULL);
		_exit(1);
	}
	wait_for_reader();
	nic_close(&nic);
	said = stderr_end();
	assert_int_equal(waitpid(reader, NULL, 0), reader);
	assert_non_null(strstr(said, "too slow"));
	assert_string_equal(strchr(said, '\n'), "\n");
	snprintf(text, sizeof(text), READER " %s.copy | cut -c 1-40", path);
	report = popen(text, "r");
	while (fgets(line, sizeof(line), report)) {
		frames += !strncmp(line, "frame in", 8);
		sscanf(line, "counts %llu %llu", &received, &dropped);
	}
	assert_int_equal(pclose(report), 0);
	assert_true(frames > 1000 && dropped > 1000 && received >= 10000);
	assert_true(frames + dropped <= received && received <= frames + dropped + 100);
}

/* A full disk ends the capture, is said once, and leaves whole blocks. */
static void survives_a_full_disk(void **state)
{
	struct nic nic;
	const char *said;

	if (mount("none", folder, "tmpfs", 0, "size=512k") < 0)
		skip();
	stderr_begin();
	nic = nic_open("t0", NULL, captured());
	make_frame(frame, 1500, NIC_MAC, 0);
	for (int i = 0; i < 2000; i++) {
		assert_int_equal(nic_send(&nic, frame, 1500, 0), 0);
		usleep(200);
	}
	nic_close(&nic);
	said = stderr_end();
	assert_non_null(strstr(said, "No space left on device"));
	assert_non_null(strstr(said, "the machine goes on"));
	assert_string_equal(strchr(said, '\n'), "\n");
	assert_non_null(strstr(read_back(), "frame in"));
	assert_int_equal(umount(folder), 0);
}

static void survives_its_interface(void **state)
{
	struct nic nic = nic_open("t0", NULL, captured());
	clock_t before;

	make_frame(frame, 100, NIC_MAC, 0);
	assert_int_equal(nic_send(&nic, frame, 100, 0), 0);
	assert_true(netns_run("ip link set t0 down && ip link set t0 up"));
	make_frame(frame, 101, NIC_MAC, 0);
	assert_int_equal(nic_send(&nic, frame, 101, 0), 0);
	usleep(200000);
	assert_true(netns_run("ip link del t0"));
	before = clock();
	usleep(300000);
	assert_true(clock() - before < CLOCKS_PER_SEC / 5); /* it does not spin */
	nic_close(&nic);
	assert_true(netns_run(READER " %s | grep -q ' 100 ffff'", path));
	assert_true(netns_run(READER " %s | grep -q ' 101 ffff'", path));
}

/* Opening fails with one line that has both texts. */
static void open_fails(const char *what, const char *remedy)
{
	struct nic nic;
	const char *said;
	int r;

	stderr_begin();
	r = nic_try("t0", NULL, captured(), &nic);
	said = stderr_end();
	assert_true(r < 0);
	assert_non_null(strstr(said, "pcap "));
	assert_non_null(strstr(said, what));
	assert_non_null(strstr(said, remedy));
	assert_string_equal(strchr(said, '\n'), "\n");
	assert_false(netns_run("ip link show t0 2>/dev/null"));
}

static void refuses_bad_files(void **state)
{
	struct nic nic;

	/* What is no capture could be a disk. */
	assert_true(netns_run("echo something else >%s", path));
	open_fails("no capture", "remove it");
	assert_true(netns_run("grep -q else %s", path));
	unlink(path);
	nic = nic_open("other", NULL, captured());
	open_fails("another capture", "name another");
	nic_close(&nic);
	nic = nic_open("other", NULL, captured()); /* and is overwritten now */
	nic_close(&nic);
	assert_non_null(strstr(read_back(), "interface other"));
	snprintf(path, sizeof(path), "%s", folder);
	open_fails("neither a regular file nor a FIFO", "name another");
	snprintf(path, sizeof(path), "/dev/null");
	open_fails("neither a regular file nor a FIFO", "name another");
	snprintf(path, sizeof(path), "%s/no/such", folder);
	open_fails("No such file or directory", "");
}

#define TEST(name) cmocka_unit_test_setup(name, enter)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(has_every_frame), TEST(others_read_it), TEST(has_many_frames),
		TEST(never_waits), TEST(survives_a_full_disk), TEST(survives_its_interface),
		TEST(refuses_bad_files),
	};

	return netns_skip_tc() ? 77 : cmocka_run_group_tests(tests, make_folder, remove_folder);
}

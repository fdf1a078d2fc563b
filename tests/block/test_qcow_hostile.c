/* SPDX-License-Identifier: MIT */
/* Images that libqcow is not given, or crashes on, and what does not go together with it. */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "util/util.h"

static struct loop *loop;
static const char *image;

/* --- images --- */

static void make(const char *format, const char *options)
{
	assert_int_equal(shell("qemu-img create -f %s %s %s 8M", format, options, image), 0);
	assert_int_equal(shell("qemu-io -f %s -c 'write -P 5 0 256k' %s", format, image), 0);
}

/* A file of `count` times `text`. */
static const char *make_file(const char *name, const char *text, unsigned int count)
{
	const char *path = temp_path(name);
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	while (count--)
		fputs(text, file);
	assert_int_equal(fclose(file), 0);
	return path;
}

static struct blk_options options(enum blk_format format)
{
	return (struct blk_options){.path = image, .format = format, .readonly = true,
				    .reader = BLK_READER_LIBQCOW,
				    .reader_program = getenv("MINIVMM_QCOW")};
}

static void refused(const char *what, const struct blk_options *opts, const char *says)
{
	struct blk *blk;
	const char *log;
	int r;

	capture_log_start();
	r = blk_open(loop, opts, &blk);
	log = capture_log_end();
	if (r >= 0)
		fail_msg("%s: opened", what);
	if (!strstr(log, says) || strchr(log, '\n') != strrchr(log, '\n'))
		fail_msg("%s: \"%s\" expected in: %s", what, says, log);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

/* --- what does not go together --- */

static void test_options(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW2);

	make("qcow2", "");
	opts.readonly = false;
	refused("writable", &opts, "add readonly");
	opts.readonly = true;
	opts.direct = true;
	refused("direct", &opts, "direct=on");
	opts.direct = false;
	opts.format = BLK_FORMAT_RAW;
	refused("raw", &opts, "format=qcow2 or format=qcow");
	opts.format = BLK_FORMAT_QCOW;
	refused("qcow2 as qcow", &opts, "not a qcow image but qcow2");
	make("qcow", "");
	opts.format = BLK_FORMAT_QCOW2;
	refused("qcow as qcow2", &opts, "not a qcow2 image but qcow");
	opts.reader = BLK_READER_OWN;
	opts.format = BLK_FORMAT_BY_NAME;
	refused("qcow by a name in .qcow2", &opts, "not a qcow2 image but qcow");
	assert_int_equal(rename(image, temp_path("image")), 0);
	opts.path = temp_path("image");
	refused("qcow by another name", &opts, "use format=qcow");
	opts.format = BLK_FORMAT_QCOW;
	opts.readonly = false;
	refused("qcow writable", &opts, "add readonly");
}

static void say_password(struct blk_options *opts, const char *text, const char *says)
{
	opts->password_file = make_file("password", text, 1);
	refused(says, opts, says);
}

static void test_passwords(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW2);

	make("qcow2", "");
	opts.password_file = "/nowhere/password";
	refused("no file", &opts, "password-file=/nowhere/password: No such file");
	say_password(&opts, "", "holds no password");
	say_password(&opts, "\n", "holds no password");
	opts.password_file = make_file("password", "x", 1025);
	refused("long", &opts, "too long");
	say_password(&opts, "x", "is not encrypted");
	opts.has_password_fd = true;
	say_password(&opts, "x", "one too many");
	opts.password_file = NULL;
	opts.password_fd = 1000;
	refused("bad fd", &opts, "password-fd=1000: Bad file");
	opts.has_password_fd = false;
	assert_int_equal(shell("qemu-img create -f qcow2 --object secret,id=s,data=x -o "
			       "encrypt.format=aes,encrypt.key-secret=s %s 8M", image), 0);
	refused("no password", &opts, "password-file=");
	opts.reader = BLK_READER_OWN;
	refused("engine", &opts, "password-file=");
	assert_int_equal(shell("qemu-img create -f qcow --object secret,id=s,data=x -o "
			       "encrypt.format=aes,encrypt.key-secret=s %s 8M", image), 0);
	opts.format = BLK_FORMAT_QCOW;
	refused("no password", &opts, "password-file=");
}

/* --- what libqcow reads wrong, or not --- */

static void test_known_wrong(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW2);
	struct blk *blk;

	make("qcow2", "-o compat=1.1");
	assert_int_equal(shell("qemu-io -f qcow2 -c 'write -z 64k 64k' %s", image), 0);
	refused("zero cluster", &opts, "zero clusters");
	make("qcow2", "-o compat=1.1");
	assert_int_equal(shell("qemu-io -f qcow2 -c 'write -z 4M 64k' %s", image), 0);
	refused("zero cluster without an offset", &opts, "zero clusters");
	opts.reader = BLK_READER_LIBQCOW_ANYHOW;
	assert_int_equal(blk_open(loop, &opts, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	opts.reader = BLK_READER_LIBQCOW;
	make("qcow2", "-o compat=0.10");
	assert_int_equal(shell("qemu-io -f qcow2 -c 'write -z 64k 64k' %s", image), 0);
	assert_int_equal(blk_open(loop, &opts, &blk), 0);
	assert_int_equal(blk_close(blk), 0);
	make("qcow2", "-o compression_type=zstd");
	refused("zstd", &opts, "zstd");
	make("qcow2", "-o extended_l2=on");
	refused("extended_l2", &opts, "extended_l2");
	make("qcow2", "");
	image_put(72, 8, 2);
	refused("corrupt bit", &opts, "corrupt bit");
	image_put(72, 8, 0);
	image_put(80, 8, 6);
	refused("compatible bits", &opts, "features");
	/* On a busy machine QEMU cannot tell how long its hash takes, and fails. */
	assert_int_equal(shell("for i in 1 2 3 4 5; do qemu-img create -f qcow2 --object "
			       "secret,id=s,data=x -o encrypt.format=luks,encrypt.key-secret=s,"
			       "encrypt.iter-time=10 %s 1M && break; done", image), 0);
	refused("luks", &opts, "encrypt.key-secret=s -O qcow2");
}

static void test_backing(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW2);
	const char *base = temp_path("base");

	assert_int_equal(shell("qemu-img create -f qcow2 %s 8M", base), 0);
	assert_int_equal(shell("qemu-img create -f qcow2 -b %s -F qcow2 %s", base, image), 0);
	refused("qcow2 backing", &opts, "backing file");
	opts.format = BLK_FORMAT_QCOW;
	assert_int_equal(shell("qemu-img create -f raw %s 8M", base), 0);
	assert_int_equal(shell("qemu-img create -f qcow -b %s -F raw %s", base, image), 0);
	refused("qcow backing", &opts, "qemu-img convert -f qcow");
}

/* --- headers and tables of version 1 --- */

static const struct {
	const char *what;
	uint64_t at;
	unsigned int bytes;
	uint64_t value;
	const char *says;
} headers[] = {
	{"no size", 24, 8, 0, "no size"},
	{"65 TiB", 24, 8, 65ull << 40, "64 TiB"},
	{"size all ones", 24, 8, UINT64_MAX, "64 TiB"},
	{"cluster bits 8", 32, 1, 8, "cluster size"},
	{"cluster bits 17", 32, 1, 17, "cluster size"},
	{"cluster bits 255", 32, 1, 255, "cluster size"},
	{"L2 bits 5", 33, 1, 5, "L2 tables"},
	{"L2 bits 14", 33, 1, 14, "L2 tables"},
	{"L2 bits 255", 33, 1, 255, "L2 tables"},
	{"encryption 2", 36, 4, 2, "encryption"},
	{"L1 nowhere", 40, 8, 0, "L1 table"},
	{"L1 unaligned", 40, 8, 0x31, "L1 table"},
	{"L1 past the end", 40, 8, 1ull << 40, "L1 table"},
	{"L1 far away", 40, 8, UINT64_MAX - 7, "L1 table"},
	{"L1 longer than the file", 24, 8, 1ull << 40, "L1 table"},
	{"L1 huge", 24, 8, 1ull << 46, "L1 table is too large"},
	{"L2 past the end", 48, 8, 1ull << 40, "out of place"},
	{"L2 far away", 48, 8, 1ull << 63, "out of place"},
	{"L2 not at its length", 48, 8, 0x1200, "not aligned"},
};

static void test_headers(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW);

	for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
		make("qcow", "");
		image_put(headers[i].at, headers[i].bytes, headers[i].value);
		refused(headers[i].what, &opts, headers[i].says);
	}
	make("qcow", "");
	assert_int_equal(truncate(image, 47), 0);
	refused("47 bytes", &opts, "ends early");
}

/* Of version 2 and 3 all that has its own test; here that the parser is asked. */
static void test_headers_v2(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW2);

	make("qcow2", "");
	image_put(20, 4, 27);
	refused("cluster bits 27", &opts, "cluster size");
	make("qcow2", "");
	image_put(image_get(40), 8, 0x8000010000000000);
	refused("L2 past the end", &opts, "out of place");
	image_put(image_get(40), 8, 0x8000000000050200);
	refused("L2 unaligned", &opts, "out of place");
}

/* Many tables in one place would take long to look through. */
static void test_overlap(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW2);

	assert_int_equal(shell("qemu-img create -f qcow2 %s 1T", image), 0);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'write 0 512' %s", image), 0);
	for (unsigned int i = 1; i < 2048; i++)
		image_put(image_get(40) + 8 * i, 8, image_get(image_get(40)));
	refused("overlap", &opts, "overlap");
}

/* --- while reading --- */

/* libqcow crashes on it. */
static void test_compressed_of_no_size(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW);
	static unsigned char buf[65536];
	struct blk *blk;
	const char *log;
	uint64_t l2;

	shell("qemu-img convert -f raw -O qcow -c %s %s", make_file("source", "xyzzy123", 1 << 20),
	      image);
	l2 = image_get(48);
	assert_int_equal(image_get(l2 + 8) >> 63, 1);
	image_put(l2 + 8, 8, (1ull << 63) | (image_get(l2 + 8) & ((1ull << 50) - 1)));
	assert_int_equal(blk_open(loop, &opts, &blk), 0);
	assert_int_equal(do_read(loop, blk, buf, 4096, 0), 0);
	assert_int_equal(buf[0], 'x');
	capture_log_start();
	assert_int_equal(do_read(loop, blk, buf, 4096, 4096), -EIO);
	assert_int_equal(do_read(loop, blk, buf, 4096, 4096), -EIO);
	log = capture_log_end();
	if (!strstr(log, "libqcow"))
		fail_msg("nothing was said: %s", log);
	assert_int_equal(blk_close(blk), 0);
}

static void read_all_of(const struct blk_options *opts, unsigned char *buf, uint64_t len, int want)
{
	struct blk *blk;

	assert_int_equal(blk_open(loop, opts, &blk), 0);
	assert_int_equal(do_read(loop, blk, buf, len, 0), want);
	assert_int_equal(blk_close(blk), 0);
}

/* What is cut off reads as zeroes, not as what libqcow's memory held. */
static void test_truncated(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW2), own = opts;
	static unsigned char got[1 << 20], want[1 << 20];
	off_t size;

	own.reader = BLK_READER_OWN;
	make("qcow2", "");
	size = (off_t)(image_get(image_base(L2)) & 0x00fffffffffffe00ull);
	for (unsigned int i = 0; i < 4; i++) { /* in a cluster, at its start, at a block */
		assert_int_equal(truncate(image, size + 200000 - 65536 * i + (i & 1) * 511), 0);
		read_all_of(&own, want, sizeof(want), 0);
		read_all_of(&opts, got, sizeof(got), 0);
		assert_memory_equal(got, want, sizeof(got));
	}
	make("qcow", "");
	assert_int_equal(truncate(image, (off_t)image_get(image_get(48)) + 100000), 0);
	opts.format = BLK_FORMAT_QCOW;
	read_all_of(&opts, got, sizeof(got), 0);
	assert_int_equal(got[99999], 5);
	for (unsigned int i = 100000; i < sizeof(got); i++)
		assert_int_equal(got[i], 0);
}

/* A compressed cluster that unpacks to 16 bytes: the rest must be of no other's. */
static void test_short_deflate(void **state)
{
	static const unsigned char stored[] = {1, 16, 0, 239, 255, 'm', 'i', 'n', 'i', 'v', 'm',
					       'm', 'm', 'i', 'n', 'i', 'v', 'm', 'm', '!', '!'};
	struct blk_options opts = options(BLK_FORMAT_QCOW2);
	static unsigned char buf[4 << 20];
	struct blk *blk;
	uint64_t entry;
	int fd;

	assert_int_equal(shell("qemu-img convert -f raw -O qcow2 -c %s %s",
			       make_file("source", "xyzzy123", 1 << 19), image), 0);
	entry = image_get(image_base(L2) + 8 * 40);
	assert_int_equal(entry >> 62 & 1, 1);
	fd = open(image, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, stored, sizeof(stored), (off_t)(entry & ((1ull << 54) - 1))),
			 sizeof(stored));
	close(fd);
	assert_int_equal(blk_open(loop, &opts, &blk), 0);
	assert_int_equal(do_read(loop, blk, buf, 40 * 65536, 0), 0);
	if (do_read(loop, blk, buf, 65536, 40 * 65536) == 0) {
		assert_memory_equal(buf, stored + 5, 16);
		for (unsigned int i = 16; i < 65536; i++)
			assert_int_equal(buf[i], 0);
	}
	assert_int_equal(blk_close(blk), 0);
}

/* Bytes changed at random where tables are: whatever comes of it, every read ends, and we live. */
static void mutate(enum blk_format format, const char *source, unsigned int rounds)
{
	struct blk_options opts = options(format);
	uint64_t state = test_seed(23);
	static unsigned char buf[1 << 20];
	unsigned int opened = 0, failed = 0;
	uint64_t tables[2];
	struct blk *blk;

	assert_int_equal(shell("cp %s %s", source, image), 0);
	tables[0] = image_base(L1);
	tables[1] = image_base(L2);
	for (unsigned int i = 0; i < rounds; i++) {
		assert_int_equal(shell("cp %s %s", source, image), 0);
		for (unsigned int n = 1 + rnd(&state) % 4; n; n--) {
			uint64_t table = i % 5 ? tables[i % 2] : 0;
			uint64_t at = table + rnd(&state) % (table ? 512 : 80);

			image_put(at, 1, rnd(&state));
		}
		capture_log_start();
		if (blk_open(loop, &opts, &blk) == 0) {
			opened++;
			for (uint64_t at = 0; at + sizeof(buf) <= blk_info(blk)->size_bytes &&
			     at < 4 * sizeof(buf); at += sizeof(buf))
				failed += do_read(loop, blk, buf, sizeof(buf), at) != 0;
			assert_int_equal(blk_close(blk), 0);
		}
		capture_log_end();
		assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	}
	print_message("%u of %u opened, %u reads failed\n", opened, rounds, failed);
}

static void test_mutants(void **state)
{
	const char *source = temp_path("mutant");
	const char *text = make_file("source", "xyzzy123", 1 << 19);

	shell("qemu-img convert -f raw -O qcow -c %s %s", text, source);
	mutate(BLK_FORMAT_QCOW, source, 60);
	shell("qemu-img convert -f raw -O qcow2 -o cluster_size=4k -c %s %s", text, source);
	mutate(BLK_FORMAT_QCOW2, source, 60);
}

static void test_locks(void **state)
{
	struct blk_options opts = options(BLK_FORMAT_QCOW);
	struct blk *blk;
	FILE *other;

	make("qcow", "");
	assert_int_equal(blk_open(loop, &opts, &blk), 0);
	assert_int_not_equal(shell("qemu-io -f qcow -c 'write 0 512' %s", image), 0);
	assert_int_equal(shell("qemu-io -r -f qcow -c 'read 0 512' %s", image), 0);
	assert_int_equal(blk_close(blk), 0);
	assert_int_equal(shell("qemu-io -f qcow -c 'write 0 512' %s", image), 0);
	setenv("IMAGE", image, 1);
	other = popen("(echo 'write 0 512'; sleep 2) | qemu-io -f qcow \"$IMAGE\"", "r");
	assert_non_null(other);
	assert_true(fgetc(other) != EOF);
	capture_log_start();
	assert_int_equal(blk_open(loop, &opts, &blk), -EAGAIN);
	assert_non_null(strstr(capture_log_end(), "in use"));
	pclose(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_passwords),
		cmocka_unit_test(test_known_wrong),
		cmocka_unit_test(test_backing),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_headers_v2),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_compressed_of_no_size),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_short_deflate),
		cmocka_unit_test(test_mutants),
		cmocka_unit_test(test_locks),
	};
	int r;

	if (!image_begin())
		return 77;
	image = image_path();
	loop = image_loop;
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(loop);
	return r;
}

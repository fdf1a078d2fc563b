/* SPDX-License-Identifier: MIT */
#include "image.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct loop *image_loop;
static const char *path;

bool image_begin(void)
{
	if (!have_qemu_tools() || loop_create("test", &image_loop) < 0) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return false;
	}
	path = temp_path("hostile.qcow2");
	return true;
}

const char *image_path(void)
{
	return path;
}

uint64_t image_get(uint64_t at)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t value = 0;

	assert_int_equal(pread(fd, &value, 8, (off_t)at), 8);
	close(fd);
	return be64toh(value);
}

void image_put(uint64_t at, unsigned int bytes, uint64_t value)
{
	uint64_t wire = htobe64(value << (64 - 8 * bytes));
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, &wire, bytes, (off_t)at), bytes);
	close(fd);
}

uint64_t image_base(enum base base)
{
	switch (base) {
	case HEADER:
		return 0;
	case L1:
		return image_get(40);
	case L2:
		return image_get(image_get(40)) & 0x00fffffffffffe00ull;
	case REFTABLE:
		return image_get(48);
	case REFBLOCK:
		return image_get(image_get(48));
	}
	return 0;
}

void image_make(const char *options)
{
	assert_int_equal(shell("qemu-img create -f qcow2 -o %s %s 64M", options, path), 0);
	assert_int_equal(shell("qemu-io -f qcow2 -c 'write -P 5 0 256k' %s", path), 0);
}

int image_open(bool readonly, struct blk **out)
{
	struct blk_options opts = {.path = path, .readonly = readonly};

	return blk_open(image_loop, &opts, out);
}

void image_refused(const char *what, bool readonly, const char *says)
{
	struct blk *blk;
	const char *log;
	int r;

	capture_log_start();
	r = image_open(readonly, &blk);
	log = capture_log_end();
	if (r >= 0)
		fail_msg("%s: opened", what);
	if (!strstr(log, says) || strchr(log, '\n') != strrchr(log, '\n'))
		fail_msg("%s: \"%s\" expected in: %s", what, says, log);
}

void image_marked(const char *says, const char *log)
{
	if (!strstr(log, says))
		fail_msg("\"%s\" expected in: %s", says, log);
	assert_int_equal(image_get(72) & 2, 2);
	image_refused("marked", false, "marked as corrupt");
	assert_int_not_equal(shell("qemu-io -f qcow2 -c 'write 0 512' %s", path), 0);
}

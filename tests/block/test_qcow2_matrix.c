/* SPDX-License-Identifier: MIT */
/*
 * Round trips through every kind of image: version, cluster size, what lies below, compressed
 * clusters, an internal snapshot. QEMU makes it, we work on it, QEMU checks and reads it; QEMU
 * writes to it, we read that and work on it; the snapshot stays as it was and can be deleted.
 *
 * Each run takes some of the matrix; MATRIX=all takes all of it, MATRIX=n cell n alone.
 * TEST_SEED repeats a run.
 */
#include "harness.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "util/util.h"
#include "work.h"

#define DISK_BYTES (12ull << 20)
#define SECTORS (DISK_BYTES / 512)
#define LONGER MIB(3)
#define PACKED_FROM (2ull << 20) /* what is compressed */
#define PACKED_BYTES (4ull << 20)
#define CELLS_BY_DEFAULT 12

enum below { NOTHING, RAW, QCOW2, SHORTER, LONGER_QCOW2, BELOWS };
enum packed { NOT_PACKED, DEFLATE, ZSTD, PACKINGS };

struct cell {
	unsigned int number;
	bool is_old; /* version 2 */
	const char *cluster;
	enum below below;
	enum packed packed;
	bool snapshot;
};

static struct loop *loop;
static const char *image, *raw, *tagged, *was;

static struct blk *open_image(bool readonly)
{
	struct blk_options opts = {.path = image, .readonly = readonly, .backing = BLK_BACKING_ON};
	struct blk *blk;

	assert_int_equal(blk_open(loop, &opts, &blk), 0);
	assert_int_equal(blk_info(blk)->size_bytes, DISK_BYTES);
	return blk;
}

/* The raw file is `tag` throughout, each sector by its number. */
static void make_tagged(const char *path, uint64_t tag, uint64_t first, uint64_t count)
{
	unsigned char *bytes = malloc(count * 512);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	for (uint64_t i = 0; i < count; i++)
		fill_tag(bytes + i * 512, tag, first + i);
	assert_int_equal(write(fd, bytes, count * 512), count * 512);
	close(fd);
	free(bytes);
}

static void load_raw(const char *path, unsigned char *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_int_equal(read(fd, bytes, DISK_BYTES), DISK_BYTES);
	close(fd);
}

/* --- making it --- */

static void make_below(const struct cell *cell, uint64_t *seed)
{
	static const char *const clusters[] = {"512", "4k", "64k"};
	uint64_t bytes = cell->below == SHORTER ? DISK_BYTES / 3 + 512
			 : cell->below == LONGER_QCOW2 ? DISK_BYTES + LONGER : DISK_BYTES;

	make_tagged(temp_path("below.raw"), 1, 0, bytes / 512);
	if (cell->below == RAW)
		return;
	assert_int_equal(shell("qemu-img convert -f raw -O qcow2 %s -o cluster_size=%s,compat=%s "
			       "%s %s", rnd(seed) % 2 ? "-c" : "", clusters[rnd(seed) % 3],
			       rnd(seed) % 2 ? "0.10" : "1.1", temp_path("below.raw"),
			       temp_path("below.qcow2")), 0);
}

static void make_image(const struct cell *cell, uint64_t *seed)
{
	const char *form = cell->below == RAW ? "raw" : "qcow2";
	char below[200] = "";

	if (cell->below != NOTHING) {
		make_below(cell, seed);
		snprintf(below, sizeof(below), "-b below.%s -F %s", form, form);
	}
	assert_int_equal(shell("qemu-img create -f qcow2 %s -o compat=%s,cluster_size=%s%s %s %llu",
			       below, cell->is_old ? "0.10" : "1.1", cell->cluster,
			       cell->packed == ZSTD ? ",compression_type=zstd" : "", image,
			       DISK_BYTES), 0);
	if (cell->packed != NOT_PACKED) {
		make_tagged(tagged, 3, PACKED_FROM / 512, PACKED_BYTES / 512);
		assert_int_equal(shell("qemu-io -f qcow2 -c 'write -c -s %s %llu %llu' %s", tagged,
				       PACKED_FROM, PACKED_BYTES, image), 0);
	}
	assert_int_equal(shell("qemu-img convert -f qcow2 -O raw %s %s", image, was), 0);
	if (cell->snapshot)
		assert_int_equal(shell("qemu-img snapshot -c one %s", image), 0);
}

/* --- going round --- */

/* QEMU sees a whole image without leaks; what it reads comes back. */
static void qemu_reads(unsigned char *bytes)
{
	assert_int_equal(shell("qemu-img check -f qcow2 %s", image), 0);
	assert_int_equal(shell("qemu-img convert -f qcow2 -O raw %s %s", image, raw), 0);
	load_raw(raw, bytes);
}

/* All at once, in odd pieces, and by the way that boot code takes. */
static void we_read(const unsigned char *want, unsigned char *got)
{
	struct blk *blk = open_image(true);

	assert_int_equal(do_read(loop, blk, got, DISK_BYTES, 0), 0);
	assert_memory_equal(want, got, DISK_BYTES);
	memset(got, 0xee, DISK_BYTES);
	for (uint64_t at = 0; at < DISK_BYTES; at += 77 * 512)
		assert_int_equal(do_read(loop, blk, got + at, MIN(77 * 512, DISK_BYTES - at), at),
				 0);
	assert_memory_equal(want, got, DISK_BYTES);
	assert_int_equal(blk_read_sync(blk, got, 300001, 2000012), 0);
	assert_memory_equal(want + 2000012, got, 300001);
	assert_int_equal(blk_close(blk), 0);
}

static void we_work(struct work *work, int batches)
{
	work->blk = open_image(false);
	work_run(work, loop, batches);
	assert_int_equal(blk_close(work->blk), 0);
	work_closed(work);
}

static void qemu_works(uint64_t *seed)
{
	for (uint64_t tag = 0; tag < 8; tag++) {
		uint64_t first = rnd(seed) % SECTORS, count = 1 + rnd(seed) % 700;
		const char *how = tag % 3 == 2 ? rnd(seed) % 2 ? "-z" : "-z -u" : "-s";

		count = MIN(count, SECTORS - first);
		make_tagged(tagged, 1000000 + tag, first, count);
		if (tag == 7)
			assert_int_equal(shell("qemu-io -f qcow2 -c 'discard %llu %llu' %s",
					       (unsigned long long)first * 512,
					       (unsigned long long)count * 512, image), 0);
		else
			assert_int_equal(shell("qemu-io -f qcow2 -c 'write %s %s %llu %llu' %s", how,
					       how[1] == 's' ? tagged : "",
					       (unsigned long long)first * 512,
					       (unsigned long long)count * 512, image), 0);
	}
}

static void snapshot_ends(void)
{
	assert_int_equal(shell("qemu-img convert -f qcow2 -l one -O raw %s %s", image, raw), 0);
	assert_int_equal(shell("cmp %s %s", raw, was), 0);
	assert_int_equal(shell("qemu-img snapshot -d one %s", image), 0);
	assert_int_equal(shell("qemu-img check -f qcow2 %s", image), 0);
}

static void round_trip(const struct cell *cell, uint64_t *seed)
{
	unsigned char *bytes = malloc(DISK_BYTES), *got = malloc(DISK_BYTES);
	struct work *work = work_create(NULL, 0, SECTORS, rnd(seed));

	make_image(cell, seed);
	qemu_reads(bytes);
	we_read(bytes, got);
	work->idle_discards = cell->below != NOTHING;
	for (int turn = 0; turn < 2; turn++) {
		work_rebase(work, bytes);
		we_work(work, 12);
		qemu_reads(bytes);
		assert_int_equal(work_compare(work, bytes), 0);
		we_read(bytes, got);
		if (turn)
			break;
		qemu_works(seed);
		qemu_reads(bytes);
		we_read(bytes, got);
	}
	if (cell->snapshot)
		snapshot_ends();
	work_destroy(work);
	free(bytes);
	free(got);
}

/* --- the matrix --- */

/* Cell `number`, or false where there is none such. */
static bool cell_at(unsigned int number, struct cell *cell)
{
	static const char *const clusters[] = {"512", "4k", "64k", "2M"};
	unsigned int n = number;

	cell->number = number;
	cell->is_old = n % 2;
	n /= 2;
	cell->cluster = clusters[n % ARRAY_LEN(clusters)];
	n /= ARRAY_LEN(clusters);
	cell->below = n % BELOWS;
	n /= BELOWS;
	cell->packed = n % PACKINGS;
	n /= PACKINGS;
	cell->snapshot = n % 2;
	return n < 2 && !(cell->is_old && cell->packed == ZSTD);
}

#define CELLS (2 * 4 * BELOWS * PACKINGS * 2)

static void go(const struct cell *cell, uint64_t *seed)
{
	static const char *const belows[] = {"nothing", "raw", "qcow2", "a shorter qcow2",
					     "a longer qcow2"};
	static const char *const packings[] = {"", ", deflate", ", zstd"};

	print_message("%u: version %d, clusters of %s, over %s%s%s\n", cell->number,
		      cell->is_old ? 2 : 3, cell->cluster, belows[cell->below],
		      packings[cell->packed], cell->snapshot ? ", snapshot" : "");
	round_trip(cell, seed);
}

static void test_matrix(void **state)
{
	const char *which = getenv("MATRIX");
	uint64_t seed = test_seed((uint64_t)time(NULL));
	bool all = which && !strcmp(which, "all");
	unsigned int done = 0, number;
	struct cell cell;

	rnd(&seed);
	for (number = 0; all && number < CELLS; number++) {
		if (cell_at(number, &cell))
			go(&cell, &seed);
	}
	if (which && !all && cell_at((unsigned int)atoi(which), &cell))
		go(&cell, &seed);
	while (!which && done < CELLS_BY_DEFAULT) {
		if (!cell_at((unsigned int)(rnd(&seed) % CELLS), &cell))
			continue;
		go(&cell, &seed);
		done++;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matrix),
	};
	int r;

	if (!have_qemu_tools() || loop_create("test", &loop) < 0) {
		print_message("skipped: no qemu-img and qemu-io (apt install qemu-utils)\n");
		return 77;
	}
	image = temp_path("matrix.qcow2");
	raw = temp_path("matrix.raw");
	tagged = temp_path("tagged.raw");
	was = temp_path("was.raw");
	r = cmocka_run_group_tests(tests, NULL, NULL);
	loop_destroy(loop);
	return r;
}

/* SPDX-License-Identifier: MIT */
/* The cache of unpacked kernels: what is kept, what is refused, and what may go wrong. */
#include "tests/unit/test_boot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "boot/cache.h"
#include "util/log.h"

#define PACKED 100000
#define BYTES 700001
#define DIR_NAME "minivmm/kernels"

/* Each test has a cache directory of its own, in which it is. */
static int setup(void **state)
{
	char base[] = "/tmp/minivmm-cache-XXXXXX";

	assert_non_null(mkdtemp(base));
	assert_int_equal(chdir(base), 0);
	assert_int_equal(setenv("XDG_CACHE_HOME", base, 1), 0);
	return 0;
}

static int teardown(void **state)
{
	const char *base = getenv("XDG_CACHE_HOME");
	char command[128];

	snprintf(command, sizeof(command), "rm -r '%s'", base);
	assert_int_equal(chdir("/"), 0);
	return system(command);
}

static uint8_t *room(size_t len)
{
	void *map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(map != MAP_FAILED);
	return map;
}

/* Kernel number `seed`; `full`: unpacked, else there is only room for that. */
static struct kernel_bytes make(uint8_t seed, bool full)
{
	struct kernel_bytes kernel = {room(PACKED), PACKED, room(BYTES), BYTES};

	for (size_t i = 0; i < PACKED; i++)
		kernel.packed[i] = (uint8_t)(i * 7 >> 4) ^ seed;
	for (size_t i = 0; full && i < BYTES; i++)
		kernel.bytes[i] = (uint8_t)(i * 5 >> 3) + seed;
	return kernel;
}

static int get(struct kernel_cache *cache, uint8_t seed)
{
	struct kernel_bytes expected = make(seed, true), kernel = make(seed, false);
	int ret = kernel_cache_get(cache, &kernel);

	if (ret == 0)
		assert_memory_equal(kernel.bytes, expected.bytes, BYTES);
	kernel_bytes_free(&kernel);
	kernel_bytes_free(&expected);
	return ret;
}

/* Returns when it is written, or is not. */
static void put(struct kernel_cache *cache, uint8_t seed)
{
	struct kernel_bytes kernel = make(seed, true);

	kernel_cache_put(cache, &kernel);
	assert_null(kernel.bytes);
	get(cache, (uint8_t)(seed ^ 0x80));
}

static unsigned int entries(char *name)
{
	DIR *dir = opendir(DIR_NAME);
	unsigned int count = 0;
	struct dirent *entry;

	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		if (name)
			snprintf(name, 300, DIR_NAME "/%s", entry->d_name);
	}
	closedir(dir);
	return count;
}

static struct kernel_cache *open_cache(void)
{
	struct kernel_cache *cache = kernel_cache_open();

	assert_non_null(cache);
	return cache;
}

static void test_hit_and_miss(void **state)
{
	struct kernel_cache *cache = open_cache();
	struct stat st;

	assert_int_equal(get(cache, 1), -ENOENT);
	put(cache, 1);
	assert_int_equal(get(cache, 1), 0);
	assert_int_equal(get(cache, 2), -ENOENT);
	put(cache, 2);
	kernel_cache_close(cache);
	cache = open_cache();
	assert_int_equal(get(cache, 1), 0);
	assert_int_equal(get(cache, 2), 0);
	kernel_cache_close(cache);
	assert_int_equal(entries(NULL), 2);
	assert_int_equal(stat(DIR_NAME, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
}

static void test_without(void **state)
{
	struct kernel_bytes kernel = make(1, true);

	assert_int_equal(kernel_cache_get(NULL, &kernel), -ENOENT);
	kernel_cache_put(NULL, &kernel);
	assert_null(kernel.packed);
	kernel_cache_close(NULL);
}

/* --- bad entries --- */

static void flip(const char *path, off_t offset)
{
	int fd = open(path, O_RDWR);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, offset), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
	close(fd);
}

static void damage_head(const char *path)
{
	flip(path, 3);
}

static void damage_lengths(const char *path)
{
	flip(path, 9);
}

static void damage_crc(const char *path)
{
	flip(path, 28);
}

static void damage_packed(const char *path)
{
	flip(path, 32 + PACKED - 1);
}

static void damage_first(const char *path)
{
	flip(path, 32 + PACKED);
}

static void damage_last(const char *path)
{
	flip(path, 32 + PACKED + BYTES - 1);
}

static void truncate_it(const char *path)
{
	assert_int_equal(truncate(path, 32 + PACKED + BYTES - 1), 0);
}

static void empty_it(const char *path)
{
	assert_int_equal(truncate(path, 0), 0);
}

static void extend_it(const char *path)
{
	assert_int_equal(truncate(path, 32 + PACKED + BYTES + 1), 0);
}

/* As after a crash of the host: there are its length and no data. */
static void lose_data(const char *path)
{
	assert_int_equal(truncate(path, 32 + PACKED + 300000), 0);
	assert_int_equal(truncate(path, 32 + PACKED + BYTES), 0);
}

static void let_others_write(const char *path)
{
	assert_int_equal(chmod(path, 0620), 0);
}

static void give_away(const char *path)
{
	if (geteuid() != 0 || chown(path, 65534, 0) < 0)
		let_others_write(path);
}

static void link_it(const char *path)
{
	assert_int_equal(rename(path, "elsewhere"), 0);
	assert_int_equal(symlink("../../elsewhere", path), 0);
}

static void make_fifo(const char *path)
{
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
}

/* It is of no use, and -v says so in one line. */
static void assert_no_use(struct kernel_cache *cache)
{
	const char *text, *end;
	int ret;

	caught_begin();
	ret = get(cache, 1);
	text = caught_end();
	assert_true(ret < 0 && ret != -ENOENT);
	assert_non_null(strstr(text, "is of no use: "));
	end = strchr(text, '\n');
	assert_true(end && !end[1]);
}

static void test_bad_entries(void **state)
{
	static void (*const spoil[])(const char *path) = {
		damage_head, damage_lengths, damage_crc, damage_packed, damage_first, damage_last,
		truncate_it, empty_it, extend_it, lose_data, let_others_write, give_away, link_it,
		make_fifo,
	};
	struct kernel_cache *cache = open_cache();
	char path[300];

	for (size_t i = 0; i < ARRAY_LEN(spoil); i++) {
		put(cache, 1);
		assert_int_equal(get(cache, 1), 0);
		assert_int_equal(entries(path), 1);
		spoil[i](path);
		assert_no_use(cache);
	}
	put(cache, 1);
	assert_int_equal(get(cache, 1), 0);
	kernel_cache_close(cache);
}

/* A whole file, but another kernel's. */
static void test_swapped(void **state)
{
	struct kernel_cache *cache = open_cache();
	char one[300], two[300];

	put(cache, 1);
	entries(one);
	assert_int_equal(rename(one, "one"), 0);
	put(cache, 2);
	entries(two);
	assert_int_equal(rename(two, one), 0);
	assert_int_equal(rename("one", two), 0);
	assert_int_equal(get(cache, 1), -EBADMSG);
	assert_int_equal(get(cache, 2), -EBADMSG);
	put(cache, 1);
	assert_int_equal(get(cache, 1), 0);
	assert_int_equal(get(cache, 2), -EBADMSG);
	kernel_cache_close(cache);
}

static void test_directory_in_place(void **state)
{
	struct kernel_cache *cache = open_cache();
	char path[300];

	put(cache, 1);
	entries(path);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_true(get(cache, 1) < 0);
	put(cache, 1);
	assert_true(get(cache, 1) < 0);
	kernel_cache_close(cache);
}

/* --- writing --- */

static void test_no_space(void **state)
{
	struct kernel_cache *cache = open_cache();
	struct rlimit old, small;

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = (struct rlimit){PACKED + 5000, old.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	put(cache, 1); /* and SIGXFSZ does not end us */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_int_equal(get(cache, 1), -ENOENT);
	assert_int_equal(entries(NULL), 0);
	put(cache, 1);
	assert_int_equal(get(cache, 1), 0);
	kernel_cache_close(cache);
}

static void test_two_at_once(void **state)
{
	struct kernel_cache *caches[4];
	int status;

	for (unsigned int i = 0; i < 20; i++) {
		pid_t child = fork();

		for (size_t j = 0; j < ARRAY_LEN(caches); j++)
			caches[j] = open_cache();
		for (size_t j = 0; j < ARRAY_LEN(caches); j++) {
			struct kernel_bytes kernel = make(3, true);

			kernel_cache_put(caches[j], &kernel);
		}
		for (size_t j = 0; j < ARRAY_LEN(caches); j++) {
			int ret = get(caches[j], 3);

			/* Another one may be about to put it there once more. */
			assert_true(ret == 0 || ret == -ENOENT);
			kernel_cache_close(caches[j]);
		}
		if (child == 0)
			_exit(0);
		assert_int_equal(waitpid(child, &status, 0), child);
		assert_int_equal(status, 0);
		assert_int_equal(entries(NULL), 1);
	}
}

static void test_eviction(void **state)
{
	struct kernel_cache *cache = open_cache();
	const struct timespec pause = {.tv_nsec = 20000000};

	for (uint8_t seed = 1; seed <= 10; seed++) {
		put(cache, seed);
		nanosleep(&pause, NULL);
		assert_int_equal(get(cache, 1), 0); /* always the last used */
		assert_int_equal(entries(NULL), MIN(seed, 8));
	}
	assert_int_equal(get(cache, 2), -ENOENT);
	assert_int_equal(get(cache, 3), -ENOENT);
	assert_int_equal(get(cache, 4), 0);
	kernel_cache_close(cache);
}

/* --- where there is none --- */

static void assert_none(void)
{
	assert_null(kernel_cache_open());
}

static void test_unsafe_directory(void **state)
{
	kernel_cache_close(open_cache());
	assert_int_equal(chmod(DIR_NAME, 0770), 0);
	assert_none();
	assert_int_equal(chmod(DIR_NAME, 0700), 0);
	assert_int_equal(chmod("minivmm", 0707), 0);
	assert_none();
	assert_int_equal(chmod("minivmm", 0700), 0);
	kernel_cache_close(open_cache());
	if (geteuid() == 0 && chown(DIR_NAME, 65534, 0) == 0)
		assert_none();
	assert_int_equal(rename("minivmm", "other"), 0);
	assert_int_equal(symlink("other", "minivmm"), 0);
	assert_none();
}

static void test_home(void **state)
{
	char base[64];

	snprintf(base, sizeof(base), "%s", getenv("XDG_CACHE_HOME"));
	unsetenv("XDG_CACHE_HOME");
	setenv("HOME", base, 1);
	kernel_cache_close(open_cache());
	assert_int_equal(access(".cache/minivmm/kernels", F_OK), 0);
	setenv("HOME", ".", 1);
	assert_none();
	unsetenv("HOME");
	assert_none();
	setenv("XDG_CACHE_HOME", "", 1);
	assert_none();
	setenv("XDG_CACHE_HOME", "relative", 1);
	assert_none();
	setenv("XDG_CACHE_HOME", "/dev/null/none", 1);
	assert_none();
	setenv("XDG_CACHE_HOME", base, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_hit_and_miss, setup, teardown),
		cmocka_unit_test(test_without),
		cmocka_unit_test_setup_teardown(test_bad_entries, setup, teardown),
		cmocka_unit_test_setup_teardown(test_swapped, setup, teardown),
		cmocka_unit_test_setup_teardown(test_directory_in_place, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_space, setup, teardown),
		cmocka_unit_test_setup_teardown(test_two_at_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_eviction, setup, teardown),
		cmocka_unit_test_setup_teardown(test_unsafe_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_home, setup, teardown),
	};

	log_set_level(LOG_LEVEL_DEBUG);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Every option and key once, but those of --net, and every complaint. */
#include "options.h"

#include <stdio.h>

#include "tests/unit/options_fixture.h"
#include "util/util.h"

static void test_defaults(void **state)
{
	parse_ok("--kernel|bz");
	assert_string_equal(config.kernel, "bz");
	assert_null(config.name);
	assert_null(config.initrd);
	assert_null(config.cmdline);
	assert_int_equal(config.vm.mem.len_bytes, MIB(512));
	assert_int_equal(topology_count(&config.vm.cpus), 1);
	assert_int_equal(config.disk_count + config.net_count, 0);
	assert_false(config.no_reboot || config.force || config.stats || config.no_kaslr);
	assert_true(config.kernel_cache);
}

static void check_all(void)
{
	assert_string_equal(config.kernel, "bz");
	assert_string_equal(config.initrd, "ird");
	assert_string_equal(config.cmdline, "a b=c,d");
	assert_int_equal(config.vm.mem.len_bytes, GIB(2));
	assert_int_equal(topology_count(&config.vm.cpus), 288);
	assert_int_equal(config.disk_count, 2);
	assert_string_equal(config.disks[0].blk.path, "a.img");
	assert_string_equal(config.disks[1].blk.path, "b.qcow2");
	assert_int_equal(config.net_count, 1);
	assert_string_equal(config.nets[0].net.bridge, "br0");
}

static void test_all(void **state)
{
	parse_ok("--kernel|bz|--initrd|ird|--cmdline|a b=c,d|--mem|2G|--cpus|288|--disk|a.img|"
		 "--disk|b.qcow2|--net|bridge=br0|--name|web|--no-reboot|--force|--stats|"
		 "--kaslr|off|--kernel-cache|off");
	check_all();
	assert_string_equal(config.name, "web");
	assert_true(config.no_reboot && config.force && config.stats && config.no_kaslr);
	assert_false(config.kernel_cache);
	parse_ok("--kernel|bz|--kaslr=on|--kernel-cache=on");
	assert_true(config.kernel_cache && !config.no_kaslr);
	assert_null(config.stats_file);
	parse_ok("--kernel|bz|--stats=s.json");
	assert_true(config.stats);
	assert_string_equal(config.stats_file, "s.json");
	parse_ok("--kernel=bz|--initrd=ird|--cmdline=a b=c,d|--mem=2G|--cpus=288|--disk=a.img|"
		 "--disk=b.qcow2|--net=bridge=br0");
	check_all();
	parse_ok("-k|bz|-i|ird|-c|a b=c,d|-m|2G|-p|288|-d|a.img|-d|b.qcow2|-n|bridge=br0|-v");
	check_all();
	parse_ok("-vkbz|-iird|-ca b=c,d|-m2G|-p288|-da.img|-db.qcow2|-nbridge=br0");
	check_all();
	/* The last one counts; disks and interfaces add up. */
	parse_ok("--kernel|x|--mem|1G|--kernel|bz|--mem|3M");
	assert_string_equal(config.kernel, "bz");
	assert_int_equal(config.vm.mem.len_bytes, MIB(3));
}

static void test_help(void **state)
{
	assert_int_equal(parse("--help"), OPTIONS_HELP);
	assert_int_equal(parse("-h"), OPTIONS_HELP);
	assert_int_equal(parse("--version"), OPTIONS_VERSION);
	assert_int_equal(parse("-V"), OPTIONS_VERSION);
	/* Whatever stands before and behind, as long as it is right so far. */
	assert_int_equal(parse("--mem|1G|--help|--bogus"), OPTIONS_HELP);
}

/* Each is a program, minivmm-WORD (meson.build). */
static void test_help_has_commands(void **state)
{
	static const char *const words[] = {"disk", "net", "bridge", "bench", "top"};
	char line[32];

	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		snprintf(line, sizeof(line), "       minivmm %s ", words[i]);
		assert_non_null(strstr(options_help, line));
	}
}

/* The help names all there is, and nothing else. */
static void test_help_is_true(void **state)
{
	char name[32], line[64];

	for (const char *at = options_help; (at = strstr(at, "--")); at += 2) {
		if (sscanf(at, "--%31[a-z-]", name) != 1)
			continue;
		snprintf(line, sizeof(line), "--kernel|bz|--%s", name);
		capture_start();
		parse(line);
		if (strstr(capture_end(), "unknown"))
			fail_msg("--%s: in the help only", name);
	}
	for (const char *at = options_help; *at; at += strcspn(at, "\n") + 1)
		assert_true(strcspn(at, "\n") <= 80);
}

static void test_mem(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} cases[] = {
		{"2M", MIB(2)}, {"512m", MIB(512)}, {"4G", GIB(4)}, {"1T", GIB(1024)},
		{"2097152", MIB(2)}, {"2097153", MIB(2) + 4096}, {"2100000K", KIB(2100000)},
	};
	char line[100];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		snprintf(line, sizeof(line), "-k|x|-m|%s", cases[i].text);
		parse_ok(line);
		assert_int_equal(config.vm.mem.len_bytes, cases[i].bytes);
	}
}

static void test_mem_pages(void **state)
{
	const struct mem_options *mem = &config.vm.mem;

	parse_ok("-k|x|-m|1G");
	assert_int_equal(mem->pages, MEM_PAGES_AUTO);
	assert_false(mem->shared || mem->prefault || mem->has_node);
	parse_ok("-k|x|-m|4M,hugepages=2M,prefault,shared,numa=3");
	assert_int_equal(mem->len_bytes, MIB(4));
	assert_int_equal(mem->pages, MEM_PAGES_2M);
	assert_true(mem->shared && mem->prefault && mem->has_node);
	assert_int_equal(mem->node, 3);
	parse_ok("-k|x|-m|4G,hugepages=1G,shared=off");
	assert_int_equal(mem->pages, MEM_PAGES_1G);
	assert_false(mem->shared);
	parse_ok("-k|x|-m|3000K,hugepages=off");
	assert_int_equal(mem->pages, MEM_PAGES_OFF);
	parse_ok("-k|x|-m|3000K,hugepages=thp");
	assert_int_equal(mem->len_bytes, KIB(3000));
}

static void check_cpus(const char *line, unsigned int sockets, unsigned int cores,
		       unsigned int threads)
{
	parse_ok(line);
	assert_int_equal(config.vm.cpus.sockets, sockets);
	assert_int_equal(config.vm.cpus.cores, cores);
	assert_int_equal(config.vm.cpus.threads, threads);
}

static void test_cpus(void **state)
{
	check_cpus("-k|x", 1, 1, 1);
	check_cpus("-k|x|-p|8", 1, 8, 1);
	check_cpus("-k|x|-p|8,threads=2", 1, 4, 2);
	check_cpus("-k|x|-p|8,threads=2,sockets=2", 2, 2, 2);
	check_cpus("-k|x|-p|12,sockets=2,cores=3,threads=2", 2, 3, 2);
	check_cpus("-k|x|-p|cores=88", 1, 88, 1);
	check_cpus("-k|x|-p|sockets=2,cores=88", 2, 88, 1);
	check_cpus("-k|x|-p|threads=2", 1, 1, 2);
}

static void test_running(void **state)
{
	parse_ok("-k|x");
	assert_true(!config.pin.vcpus && !config.pin.io && !config.timeline);
	parse_ok("-k|x|--timeline");
	assert_true(config.timeline && !config.timeline_file);
	parse_ok("-k|x|--timeline=a.svg");
	assert_string_equal(config.timeline_file, "a.svg");
	assert_false(config.vm.no_idle_exits || config.vm.has_halt_poll);
	parse_ok("-k|x|--pin|0-3+8,io=4|--cpu-idle-exits|off|--halt-poll|0");
	assert_string_equal(config.pin.vcpus, "0-3+8");
	assert_string_equal(config.pin.io, "4");
	assert_true(config.vm.no_idle_exits && config.vm.has_halt_poll);
	assert_int_equal(config.vm.halt_poll_us, 0);
	parse_ok("-k|x|--pin|io=4|--halt-poll|200|--cpu-idle-exits|on");
	assert_null(config.pin.vcpus);
	assert_int_equal(config.vm.halt_poll_us, 200);
	assert_false(config.vm.no_idle_exits);
}

static void test_disk(void **state)
{
	const struct machine_disk *d = config.disks;

	parse_ok("-k|x|-d|a");
	assert_string_equal(d->blk.path, "a");
	assert_int_equal(d->blk.format, BLK_FORMAT_BY_NAME);
	assert_false(d->blk.readonly || d->blk.direct);
	assert_null(d->serial);
	/* A CD's image is not for writing, unless somebody says it is. */
	parse_ok("-k|x|-d|a.iso");
	assert_int_equal(d->blk.format, BLK_FORMAT_BY_NAME);
	assert_true(d->blk.readonly);
	parse_ok("-k|x|-d|dir/Debian,, 12.ISO,direct");
	assert_true(d->blk.readonly && d->blk.direct);
	parse_ok("-k|x|-d|a.iso,readonly=off");
	assert_false(d->blk.readonly);
	parse_ok("-k|x|-d|a.iso,format=raw");
	assert_false(d->blk.readonly);
	parse_ok("-k|x|-d|a.iso.img");
	assert_false(d->blk.readonly);
	parse_ok("-k|x|-d|iso");
	assert_false(d->blk.readonly);
	assert_int_equal(d->queues, 0);
	parse_ok("-k|x|-d|a,queues=64");
	assert_int_equal(d->queues, 64);
	assert_true(d->iops == 0 && d->bps == 0);
	parse_ok("-k|x|-d|a,iops=1,bps=4K");
	assert_true(d->iops == 1 && d->bps == 4096);
	parse_ok("-k|x|-d|a,iops=2K,bps=1T");
	assert_true(d->iops == 2048 && d->bps == 1ull << 40);
	assert_int_equal(d->poll_us, -1);
	parse_ok("-k|x|-d|a,poll=0|-d|b,poll=10000|-d|c,poll=5,poll=auto");
	assert_true(d[0].poll_us == 0 && d[1].poll_us == 10000 && d[2].poll_us == -1);
	parse_ok("-k|x|-d|a,format=raw,readonly,direct,serial=12345678901234567890");
	assert_int_equal(d->blk.format, BLK_FORMAT_RAW);
	assert_true(d->blk.readonly && d->blk.direct);
	assert_string_equal(d->serial, "12345678901234567890");
	parse_ok("-k|x|-d|a,format=qcow2,readonly=on,direct=off");
	assert_int_equal(d->blk.format, BLK_FORMAT_QCOW2);
	assert_true(d->blk.readonly && !d->blk.direct);
	assert_int_equal(d->blk.backing, BLK_BACKING_OFF);
	parse_ok("-k|x|-d|a,backing");
	assert_int_equal(d->blk.backing, BLK_BACKING_ON);
	assert_null(d->blk.backing_dir);
	parse_ok("-k|x|-d|a,backing=on,backing=off");
	assert_int_equal(d->blk.backing, BLK_BACKING_OFF);
	parse_ok("-k|x|-d|a,backing=images/base");
	assert_int_equal(d->blk.backing, BLK_BACKING_ON);
	assert_string_equal(d->blk.backing_dir, "images/base");
	parse_ok("-k|x|-d|a,data-file=b");
	assert_string_equal(d->blk.data_file, "b");
	assert_int_equal(d->blk.snapshot, BLK_SNAPSHOT_OFF);
	parse_ok("-k|x|-d|a.iso,snapshot");
	assert_int_equal(d->blk.snapshot, BLK_SNAPSHOT_ON);
	assert_false(d->blk.readonly);
	parse_ok("-k|x|-d|a,snapshot=commit");
	assert_int_equal(d->blk.snapshot, BLK_SNAPSHOT_COMMIT);
	parse_ok("-k|x|-d|a,readonly,snapshot=off");
	assert_int_equal(d->blk.snapshot, BLK_SNAPSHOT_OFF);
	parse_ok("-k|x|-d|a=b c,serial=x=y");
	assert_string_equal(d->blk.path, "a=b c");
	assert_string_equal(d->serial, "x=y");
	/* A comma in a name is written twice. */
	parse_ok("-k|x|-d|a,,b,readonly");
	assert_string_equal(d->blk.path, "a,b");
	assert_true(d->blk.readonly);
	parse_ok("-k|x|-d|,,a,,,,,serial=,,x,,");
	assert_string_equal(d->blk.path, ",a,,");
	assert_string_equal(d->serial, ",x,");
}

static void test_libqcow(void **state)
{
	const struct blk_options *d = &config.disks[0].blk;

	parse_ok("-k|x|-d|a");
	assert_int_equal(d->reader, BLK_READER_OWN);
	assert_null(d->password_file);
	assert_false(d->has_password_fd);
	parse_ok("-k|x|-d|a,format=qcow,readonly,password-file=p");
	assert_int_equal(d->format, BLK_FORMAT_QCOW);
	assert_string_equal(d->password_file, "p");
	parse_ok("-k|x|-d|a,readonly,reader=libqcow,password-fd=0");
	assert_int_equal(d->reader, BLK_READER_LIBQCOW);
	assert_true(d->has_password_fd);
	assert_int_equal(d->password_fd, 0);
}

static void test_disks(void **state)
{
	char line[2000] = "-k|x";
	char name[32];

	for (int i = 0; i < MACHINE_DISKS_MAX; i++)
		strcat(line, "|-d|disk");
	parse_ok(line);
	assert_int_equal(config.disk_count, MACHINE_DISKS_MAX);
	for (int i = 0; i < MACHINE_NETS_MAX; i++) {
		snprintf(name, sizeof(name), "|-ntap=%d", i);
		strcat(line, name);
	}
	parse_ok(line);
	assert_int_equal(config.net_count, MACHINE_NETS_MAX);
	assert_string_equal(config.nets[7].net.tap, "7");
	capture_start();
	assert_int_equal(parse(strcat(line, "|-ntap=x")), OPTIONS_ERROR);
	assert_one_line(capture_end());
	assert_says(capture_text, "at most 8 interfaces");
	strcpy(line, "-k|x");
	for (int i = 0; i <= MACHINE_DISKS_MAX; i++)
		strcat(line, "|-d|disk");
	capture_start();
	assert_int_equal(parse(line), OPTIONS_ERROR);
	assert_one_line(capture_end());
	assert_says(capture_text, "at most 16 disks");
}

static const struct bad_line errors[] = {
	{"--mem|1G", "--kernel", "missing"},
	{"--kernel", "--kernel", "value is missing"},
	{"-k", "-k", "value is missing"},
	{"-k|x|--disk", "--disk", "value is missing"},
	{"-k|x|-vm", "-vm", "value is missing"},
	{"-k|x|--bogus", "--bogus", "unknown option"},
	{"--bogus=3|-k|x", "--bogus=3", "unknown option"},
	{"-k|x|-z", "-z", "unknown option"},
	{"-k|x|-vz|-v", "-z", "unknown option"},
	{"-k|x|-\303\266", "-\303\266", "unknown option"},
	{"-k|x|--n", "--n", "several"},
	{"-k|x|--force=3", "--force", "no value"},
	{"-k|x|--kaslr|maybe", "--kaslr maybe", "on or off"},
	{"-k|x|--kernel-cache=", "--kernel-cache", "on or off"},
	{"-k|x|--help=3", "--help", "no value"},
	{"-k|x|--no-reboot=off", "--no-reboot", "no value"},
	{"-k|x|disk.img", "'disk.img'", "--disk"},
	{"disk.img|-k|x", "'disk.img'", "--disk"},
	{"-k|x|--|-v", "'-v'", "unexpected"},
	{"-k|x|", "''", "unexpected"},

	{"-k|x|--mem|", "--mem", "not a size"},
	{"-k|x|--mem|lots", "lots", "not a size"},
	{"-k|x|--mem|-1", "-1", "not a size"},
	{"-k|x|--mem|1.5G", "1.5G", "not a size"},
	{"-k|x|--mem|2GB", "2GB", "not a size"},
	{"-k|x|--mem|0", "--mem 0", "too small"},
	{"-k|x|--mem|512", "--mem 512", "too small"},
	{"-k|x|--mem|2097151", "2097151", "too small"},
	{"-k|x|--mem|99999999999T", "99999999999T", "too large"},
	{"-k|x|--mem|18446744073709551615", "18446744073709551615", "too large"},
	{"-k|x|--mem|16777215T", "16777215T", "too large"},

	{"-k|x|--mem|,shared", "--mem", "not a size"},
	{"-k|x|--mem|1G,hugepages", "hugepages", "needs a value"},
	{"-k|x|--mem|1G,hugepages=4M", "hugepages=4M", "2M or 1G"},
	{"-k|x|--mem|3M,hugepages=2M", "--mem 3M", "multiple"},
	{"-k|x|--mem|1536M,hugepages=1G", "--mem 1536M", "1024 MiB"},
	{"-k|x|--mem|1G,prefault=maybe", "prefault=maybe", "on or off"},
	{"-k|x|--mem|1G,numa=x", "numa=x", "number"},
	{"-k|x|--mem|1G,fast", "'fast'", "prefault"},

	{"-k|x|--timeline=t.txt", "--timeline=t.txt", ".json or .svg"},
	{"-k|x|--timeline=.svg", "--timeline=.svg", ".json or .svg"},

	{"-k|x|--cpus|0", "--cpus 0", "from 1 to"},
	{"-k|x|--cpus|-1", "--cpus -1", "number"},
	{"-k|x|--cpus|", "--cpus", "number"},
	{"-k|x|--cpus|two", "two", "number"},
	{"-k|x|--cpus|2x", "2x", "number"},
	{"-k|x|--cpus|65537", "65537", "number"},
	{"-k|x|--cpus|8,cores=3", "3 cores", "8 processors"},
	{"-k|x|--cpus|7,threads=2", "2 threads", "7 processors"},
	{"-k|x|--cpus|1,sockets=2", "2 sockets", "1 processors"},
	{"-k|x|--cpus|cores=65536,threads=2", "65536 cores", "65536 processors"},
	{"-k|x|--cpus|8,cores=0", "cores=0", "number"},
	{"-k|x|--cpus|8,threads", "threads", "needs a value"},
	{"-k|x|--cpus|8,dies=2", "'dies'", "sockets"},
	{"-k|x|--cpus|99999999999999999999", "99999999999999999999", "number"},

	{"-k|x|--pin|0,1", "'1'", "io="},
	{"-k|x|--pin|io=", "'io'", "processors"},
	{"-k|x|--pin|", "''", "processors"},
	{"-k|x|--cpu-idle-exits|maybe", "maybe", "on or off"},
	{"-k|x|--halt-poll|x", "--halt-poll x", "microseconds"},
	{"-k|x|--halt-poll|1000001", "1000001", "1000000"},

	{"-k|x|--disk|", "--disk", "file"},
	{"-k|x|--disk|,readonly", "--disk", "file"},
	{"-k|x|--disk|a,snapshot=maybe", "snapshot=maybe", "on, off or commit"},
	{"-k|x|--disk|a,readonly,snapshot", "readonly", "do not go together"},
	{"-k|x|--disk|a,data-file=", "data-file", "needs a value"},
	{"-k|x|--disk|a,bogus=1", "'bogus'", "minivmm --help"},
	{"-k|x|--disk|a,b", "'b'", ",,"},
	{"-k|x|--disk|a,", "--disk", "unknown key"},
	{"-k|x|--disk|a,=raw", "--disk", "unknown key"},
	{"-k|x|--disk|a,Format=raw", "'Format'", "unknown key"},
	{"-k|x|--disk|a,format", "format", "needs a value"},
	{"-k|x|--disk|a,format=", "format", "needs a value"},
	{"-k|x|--disk|a,format=vmdk", "vmdk", "qcow2 or qcow"},
	{"-k|x|--disk|a,reader=own", "reader=own", "libqcow"},
	{"-k|x|--disk|a,password-file=", "password-file", "needs a value"},
	{"-k|x|--disk|a,password-fd=x", "password-fd=x", "descriptor"},
	{"-k|x|--disk|a,serial", "serial", "needs a value"},
	{"-k|x|--disk|a,serial=", "serial", "needs a value"},
	{"-k|x|--disk|a,serial=123456789012345678901", "123456789012345678901", "20"},
	{"-k|x|--disk|a,readonly=yes", "readonly=yes", "on or off"},
	{"-k|x|--disk|a,readonly=", "readonly=", "on or off"},
	{"-k|x|--disk|a,direct=1", "direct=1", "on or off"},
	{"-k|x|--disk|a,queues", "queues", "needs a value"},
	{"-k|x|--disk|a,queues=0", "queues=0", "1 to 64"},
	{"-k|x|--disk|a,queues=65", "queues=65", "1 to 64"},
	{"-k|x|--disk|a,queues=-1", "queues=-1", "1 to 64"},
	{"-k|x|--disk|a,queues=4x", "queues=4x", "1 to 64"},
	{"-k|x|--disk|a,iops", "iops", "needs a value"},
	{"-k|x|--disk|a,iops=0", "iops=0", "from 1 to"},
	{"-k|x|--disk|a,iops=many", "iops=many", "from 1 to"},
	{"-k|x|--disk|a,iops=1.5", "iops=1.5", "from 1 to"},
	{"-k|x|--disk|a,iops=2T", "iops=2T", "to 1T"},
	{"-k|x|--disk|a,bps=", "bps", "needs a value"},
	{"-k|x|--disk|a,bps=0", "bps=0", "from 4096 to"},
	{"-k|x|--disk|a,poll", "poll", "needs a value"},
	{"-k|x|--disk|a,poll=10001", "poll=10001", "from 0 to 10000"},
	{"-k|x|--disk|a,poll=on", "poll=on", "auto"},
	{"-k|x|--disk|a,bps=-1M", "bps=-1M", "from 4096 to"},
	{"-k|x|--disk|a,bps=4095", "bps=4095", "from 4096 to"},
	{"-k|x|--disk|a,bps=99999999T", "bps=99999999T", "to 1T"},
	{"-k|x|--disk|a,backing=images", "backing=images", "directory"},
	{"-k|x|--disk|a,backing=", "backing=", "directory"},
};

static void test_errors(void **state)
{
	assert_bad_lines(errors, ARRAY_LEN(errors));
}

/* Names are shown as they are, whatever they hold, and the line stays one. */
static void test_strange_names(void **state)
{
	char line[4000] = "-k|x|--disk|a,";
	size_t len = strlen(line);

	capture_start();
	assert_int_equal(parse("-k|x|--disk|a,b\nc%s%n=\033[2J"), OPTIONS_ERROR);
	assert_one_line(capture_end());
	assert_says(capture_text, "'b?c%s%n'");
	memset(line + len, 'y', 3000);
	line[len + 3000] = '\0';
	capture_start();
	assert_int_equal(parse(line), OPTIONS_ERROR);
	assert_one_line(capture_end());
}

/* One parse leaves nothing for the next, wherever it stopped. */
static void test_again(void **state)
{
	capture_start();
	assert_int_equal(parse("-k|x|-zvzv"), OPTIONS_ERROR);
	assert_int_equal(parse("-vh|-k"), OPTIONS_HELP);
	capture_end();
	parse_ok("-k|bz");
	parse_ok("-k|bz|-d|a");
	assert_int_equal(config.disk_count, 1);
	parse_ok("-k|bz|-d|b");
	assert_int_equal(config.disk_count, 1);
	assert_string_equal(config.disks[0].blk.path, "b");
}

#define TEST(name) cmocka_unit_test_teardown(name, capture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_defaults),
		TEST(test_all),
		TEST(test_help),
		TEST(test_help_has_commands),
		TEST(test_help_is_true),
		TEST(test_mem),
		TEST(test_mem_pages),
		TEST(test_cpus),
		TEST(test_running),
		TEST(test_disk),
		TEST(test_libqcow),
		TEST(test_disks),
		TEST(test_errors),
		TEST(test_strange_names),
		TEST(test_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

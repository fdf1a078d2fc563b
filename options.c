/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "options_impl.h"
#include "util/log.h"
#include "util/loop.h"
#include "util/util.h"

const char options_help[] =
	"Usage: minivmm --kernel FILE [OPTION]...\n"
	"       minivmm disk COMMAND [ARGUMENT]...\n"
	"       minivmm net [OPTION]... [VM]\n"
	"       minivmm bridge COMMAND [ARGUMENT]...\n"
	"       minivmm bench [COMMAND] [ARGUMENT]...\n"
	"       minivmm top [OPTION]... [VM]\n"
	"Run a Linux kernel, or any PVH kernel, in a virtual machine on this terminal;\n"
	"make and examine disk images (disk); show the network interfaces of the machines\n"
	"that run (net), or what they count with --stats (top); set up a bridge for --net\n"
	"(bridge); or measure what a machine costs here (bench). Each has its own --help.\n"
	"\n"
	"  -k, --kernel FILE     bzImage, or ELF with a PVH entry\n"
	"  -i, --initrd FILE     initial RAM disk\n"
	"  -c, --cmdline TEXT    kernel command line (default: console, and root= found\n"
	"                        on the first disk)\n"
	"  -m, --mem SIZE[,hugepages=auto|off|thp|2M|1G][,prefault][,shared][,numa=NODE]\n"
	"                        memory, as 512M or 2G (default 512M)\n"
	"  -p, --cpus N[,sockets=N][,cores=N][,threads=N]\n"
	"                        processors (default 1)\n"
	"  -d, --disk FILE[,format=raw|qcow2|qcow][,readonly][,direct=on|off]\n"
	"             [,serial=TEXT][,backing=on|off|DIR][,data-file=FILE]\n"
	"             [,snapshot=on|off|commit][,queues=N][,iops=N][,bps=SIZE]\n"
	"             [,poll=auto|US]\n"
	"             [,reader=libqcow][,password-file=FILE|,password-fd=N]\n"
	"                        add a disk; without format= a name in .qcow2 is qcow2,\n"
	"                        one in .iso a read-only raw disk, any other raw\n"
	"  -n, --net [bridge=NAME][,tap=NAME][,fd=N[:N]...][,mac=ADDR][,queues=N]\n"
	"            [,monitor=NAME][,pcap=FILE][,rate=SIZE][,isolated]\n"
	"            [,poll=auto|US][,vhost=auto|on|off]\n"
	"            [,guard=mac|ADDR[/LEN][+ADDR[/LEN]]...]\n"
	"                        add a network interface\n"
	"  -n, --net user[,hostfwd=tcp|udp:[ADDR:]PORT:PORT]...[,socket=PATH][,mac=ADDR]\n"
	"                        the same without rights, through passt\n"
	"      --pin auto|CPUS[,io=CPUS]\n"
	"                        run each vCPU, and what is not one, on processors of the\n"
	"                        host, as 0-3 or 0+2\n"
	"      --cpu-idle-exits on|off\n"
	"                        off: idle vCPUs keep their processors\n"
	"      --halt-poll US    how long KVM keeps an idle vCPU awake\n"
	"      --name NAME       the machine's name; default MAC addresses come from it\n"
	"      --kaslr on|off    place the kernel at random (default on)\n"
	"      --kernel-cache on|off\n"
	"                        keep unpacked kernels for the next start (default on)\n"
	"      --no-reboot       end when the guest reboots\n"
	"      --force           try a stock Linux kernel where KVM cannot run it\n"
	"      --stats[=FILE]    at the end and on SIGUSR1, print what was counted of\n"
	"                        processors and devices; at the end as JSON to FILE\n"
	"      --timeline[=FILE] at the end, print when what happened since the start;\n"
	"                        to FILE.json as JSON, to FILE.svg as a picture\n"
	"  -v, --verbose         say more\n"
	"  -h, --help            this help\n"
	"  -V, --version         the version\n"
	"\n"
	"Ctrl-A x quits, Ctrl-A h helps. SIGTERM presses the power button; a second one\n"
	"quits.\n"
	"Exit status: 0 after the guest's power-off, 1 on failure, 2 on bad usage.\n";

enum {
	OPTION_NAME = 256,
	OPTION_KASLR,
	OPTION_KERNEL_CACHE,
	OPTION_NO_REBOOT,
	OPTION_FORCE,
	OPTION_STATS,
	OPTION_TIMELINE,
	OPTION_PIN,
	OPTION_IDLE_EXITS,
	OPTION_HALT_POLL,
};

static const struct option long_options[] = {
	{"kernel", required_argument, NULL, 'k'},
	{"initrd", required_argument, NULL, 'i'},
	{"cmdline", required_argument, NULL, 'c'},
	{"mem", required_argument, NULL, 'm'},
	{"cpus", required_argument, NULL, 'p'},
	{"disk", required_argument, NULL, 'd'},
	{"net", required_argument, NULL, 'n'},
	{"name", required_argument, NULL, OPTION_NAME},
	{"kaslr", required_argument, NULL, OPTION_KASLR},
	{"kernel-cache", required_argument, NULL, OPTION_KERNEL_CACHE},
	{"no-reboot", no_argument, NULL, OPTION_NO_REBOOT},
	{"force", no_argument, NULL, OPTION_FORCE},
	{"stats", optional_argument, NULL, OPTION_STATS},
	{"timeline", optional_argument, NULL, OPTION_TIMELINE},
	{"pin", required_argument, NULL, OPTION_PIN},
	{"cpu-idle-exits", required_argument, NULL, OPTION_IDLE_EXITS},
	{"halt-poll", required_argument, NULL, OPTION_HALT_POLL},
	{"verbose", no_argument, NULL, 'v'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

/* --- KEY=VALUE lists --- */

char *options_next_item(char **list)
{
	char *item = *list, *to = item, *from = item;

	if (!item)
		return NULL;
	while (*from && (*from != ',' || from[1] == ',')) {
		from += *from == ',';
		*to++ = *from++;
	}
	*list = *from ? from + 1 : NULL;
	*to = '\0';
	return item;
}

char *options_split_value(char *item)
{
	char *equals = strchr(item, '=');

	if (equals)
		*equals++ = '\0';
	return equals;
}

int options_switch(const char *option, const char *key, const char *value, bool *out)
{
	if (!value || strcmp(value, "on") == 0)
		*out = true;
	else if (strcmp(value, "off") == 0)
		*out = false;
	else {
		log_error("%s: %s=%s: on or off is expected", option, key, value);
		return -EINVAL;
	}
	return 0;
}

int options_poll(const char *option, const char *value, int *out)
{
	uint64_t us;

	*out = LOOP_AWAKE_AUTO;
	if (strcmp(value, "auto") == 0)
		return 0;
	if (parse_uint(value, 0, MACHINE_POLL_MAX_US, &us) < 0) {
		log_error("%s: poll=%s: auto, or microseconds from 0 to %d are expected", option,
			  value, MACHINE_POLL_MAX_US);
		return -EINVAL;
	}
	*out = (int)us;
	return 0;
}

int options_need_value(const char *option, const char *key, const char *value)
{
	if (value && *value)
		return 0;
	log_error("%s: %s= needs a value", option, key);
	return -EINVAL;
}

int options_fd(const char *what, const char *value, int *out)
{
	uint64_t fd;

	if (parse_uint(value, 0, 1 << 20, &fd) < 0) {
		log_error("%s=%s: not a file descriptor's number", what, value);
		return -EINVAL;
	}
	*out = (int)fd;
	return 0;
}

/* --- the rest --- */

static int parse_switch(const char *option, const char *text, bool *out)
{
	if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0) {
		log_error("%s %s: on or off is expected", option, text);
		return -EINVAL;
	}
	*out = strcmp(text, "on") == 0;
	return 0;
}

/* Of what is on unless it is switched off. */
static int parse_off(const char *option, const char *text, bool *off)
{
	bool on = true;
	int r = parse_switch(option, text, &on);

	*off = !on;
	return r;
}

/* An ending alone is no name. */
static int check_timeline_file(const char *path)
{
	if (*path && (ends_with(path + 1, ".json") || ends_with(path + 1, ".svg")))
		return 0;
	log_error("--timeline=%.200s: the file's name must end in .json or .svg", path);
	return -EINVAL;
}

static int parse_option(int option, struct machine_config *config)
{
	switch (option) {
	case 'k':
		config->kernel = optarg;
		return 0;
	case 'i':
		config->initrd = optarg;
		return 0;
	case 'c':
		config->cmdline = optarg;
		return 0;
	case 'm':
		return options_mem(optarg, config);
	case 'p':
		return options_cpus(optarg, config);
	case 'd':
		return options_disk(optarg, config);
	case 'n':
		return options_net(optarg, config);
	case OPTION_PIN:
		return options_pin(optarg, &config->pin);
	case OPTION_IDLE_EXITS:
		return parse_off("--cpu-idle-exits", optarg, &config->vm.no_idle_exits);
	case OPTION_HALT_POLL:
		return options_halt_poll(optarg, &config->vm);
	case OPTION_NAME:
		config->name = optarg;
		return 0;
	case OPTION_KASLR:
		return parse_off("--kaslr", optarg, &config->no_kaslr);
	case OPTION_KERNEL_CACHE:
		return parse_switch("--kernel-cache", optarg, &config->kernel_cache);
	case OPTION_NO_REBOOT:
		config->no_reboot = true;
		return 0;
	case OPTION_FORCE:
		config->force = true;
		return 0;
	case OPTION_STATS:
		config->stats = true;
		config->stats_file = optarg;
		if (!optarg || *optarg)
			return 0;
		log_error("--stats=: the file's name is missing");
		return -EINVAL;
	case OPTION_TIMELINE:
		config->timeline = true;
		config->timeline_file = optarg;
		return optarg ? check_timeline_file(optarg) : 0;
	case 'v':
		log_set_level(LOG_LEVEL_DEBUG);
		return 0;
	}
	return -EINVAL;
}

/* How many options `arg` may be short for; `arg` is "--name" or "--name=value". */
static unsigned int count_matches(const char *arg)
{
	size_t len = strcspn(arg + 2, "=");
	unsigned int count = 0;

	for (const struct option *o = long_options; o->name; o++)
		count += strncmp(o->name, arg + 2, len) == 0;
	return count;
}

/* getopt_long did not like `arg`. */
static enum options_result complain(int option, const char *arg)
{
	bool is_long = strncmp(arg, "--", 2) == 0;

	if (option == ':')
		log_error("%s: a value is missing (see minivmm --help)", arg);
	else if (is_long && optopt) /* then it knows the option */
		log_error("%s: this option takes no value", arg);
	else if (is_long && count_matches(arg) > 1)
		log_error("%s: short for several options (see minivmm --help)", arg);
	else if (!is_long && optopt > ' ' && optopt < 0x7f)
		log_error("-%c: unknown option (see minivmm --help)", optopt);
	else
		log_error("%s: unknown option (see minivmm --help)", arg);
	return OPTIONS_ERROR;
}

static enum options_result check(int argc, char **argv, const struct machine_config *config)
{
	if (optind < argc) {
		log_error("'%s': unexpected argument (disks are given with --disk)", argv[optind]);
		return OPTIONS_ERROR;
	}
	if (!config->kernel) {
		log_error("--kernel is missing (see minivmm --help)");
		return OPTIONS_ERROR;
	}
	return OPTIONS_RUN;
}

enum options_result options_parse(int argc, char **argv, struct machine_config *config)
{
	int option, at;

	*config = (struct machine_config){
		.vm = {.mem.len_bytes = MIB(512), .cpus = {1, 1, 1}},
		.kernel_cache = true,
	};
	opterr = 0;
	optind = 0; /* from the start, whatever an earlier parse left */
	for (;;) {
		at = MAX(optind, 1);
		option = getopt_long(argc, argv, "+:k:i:c:m:p:d:n:vhV", long_options, NULL);
		if (option == -1)
			return check(argc, argv, config);
		if (option == 'h')
			return OPTIONS_HELP;
		if (option == 'V')
			return OPTIONS_VERSION;
		if (option == '?' || option == ':')
			return complain(option, argv[at]);
		if (parse_option(option, config) < 0)
			return OPTIONS_ERROR;
	}
}

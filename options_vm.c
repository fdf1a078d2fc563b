/* SPDX-License-Identifier: MIT */
/* The machine's memory and processors, and where and how these run. */
#include <errno.h>
#include <string.h>

#include "options_impl.h"
#include "util/log.h"
#include "util/util.h"

#define MEM_MAX (1ull << 52) /* x86's physical addresses end there */

static int mem_size(const char *text, uint64_t *out)
{
	int r = parse_size(text, out);

	if (r == -ERANGE || (r == 0 && *out > MEM_MAX))
		log_error("--mem %s: too large for any machine (write 512M or 2G)", text);
	else if (r < 0)
		log_error("--mem %s: not a size (write 512M or 2G)", text);
	else if (*out < MIB(2))
		log_error("--mem %s: too small, 2M is the least (and stock Linux wants 128M)", text);
	else
		return 0;
	return -EINVAL;
}

static int mem_pages(const char *value, enum mem_pages *out)
{
	static const char *const names[] = {
		[MEM_PAGES_AUTO] = "auto",
		[MEM_PAGES_OFF] = "off",
		[MEM_PAGES_THP] = "thp",
		[MEM_PAGES_2M] = "2M",
		[MEM_PAGES_1G] = "1G",
	};

	for (unsigned int i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(value, names[i]) == 0) {
			*out = (enum mem_pages)i;
			return 0;
		}
	log_error("--mem: hugepages=%s: auto, off, thp, 2M or 1G is expected", value);
	return -EINVAL;
}

static int mem_node(const char *value, struct mem_options *mem)
{
	uint64_t node;

	if (parse_uint(value, 0, INT32_MAX, &node) < 0) {
		log_error("--mem: numa=%s: a node's number is expected", value);
		return -EINVAL;
	}
	mem->has_node = true;
	mem->node = (unsigned int)node;
	return 0;
}

static int mem_item(const char *key, const char *value, struct mem_options *mem)
{
	bool is_pages = strcmp(key, "hugepages") == 0, is_node = strcmp(key, "numa") == 0;

	if ((is_pages || is_node) && options_need_value("--mem", key, value) < 0)
		return -EINVAL;
	if (is_pages)
		return mem_pages(value, &mem->pages);
	if (is_node)
		return mem_node(value, mem);
	if (strcmp(key, "prefault") == 0)
		return options_switch("--mem", key, value, &mem->prefault);
	if (strcmp(key, "shared") == 0)
		return options_switch("--mem", key, value, &mem->shared);
	log_error("--mem: '%s': unknown (hugepages, prefault, shared or numa)", key);
	return -EINVAL;
}

int options_mem(char *text, struct machine_config *config)
{
	struct mem_options *mem = &config->vm.mem;
	const char *size = options_next_item(&text);
	char *item, *value;
	uint64_t page;

	*mem = (struct mem_options){0};
	if (mem_size(size, &mem->len_bytes) < 0)
		return -EINVAL;
	while ((item = options_next_item(&text))) {
		value = options_split_value(item);
		if (mem_item(item, value, mem) < 0)
			return -EINVAL;
	}
	page = mem_page_bytes(mem->pages);
	if (page > 4096 && mem->len_bytes % page) {
		log_error("--mem %s: not a multiple of its pages of %llu MiB", size,
			  (unsigned long long)(page >> 20));
		return -EINVAL;
	}
	mem->len_bytes = align_up(mem->len_bytes, page);
	return 0;
}

/* Far more than any KVM takes, and few enough to be multiplied. */
#define CPUS_MAX 65536u

static int cpus_number(const char *key, const char *value, unsigned int *out)
{
	uint64_t number;

	if (parse_uint(value, 1, CPUS_MAX, &number) < 0) {
		log_error("--cpus %s%s%s: a number from 1 to %u is expected", key, *key ? "=" : "",
			  value, CPUS_MAX);
		return -EINVAL;
	}
	*out = (unsigned int)number;
	return 0;
}

static int cpus_item(const char *key, const char *value, struct topology *cpus)
{
	unsigned int *part = strcmp(key, "sockets") == 0   ? &cpus->sockets
			     : strcmp(key, "cores") == 0   ? &cpus->cores
			     : strcmp(key, "threads") == 0 ? &cpus->threads
							   : NULL;

	if (part)
		return options_need_value("--cpus", key, value) < 0
			       ? -EINVAL
			       : cpus_number(key, value, part);
	log_error("--cpus: '%s': unknown (sockets, cores or threads)", key);
	return -EINVAL;
}

/* What was not said is one, but for the cores, of which there are enough to make `count`. */
static int complete_cpus(struct topology *cpus, unsigned int count)
{
	uint64_t others;

	cpus->sockets = MAX(cpus->sockets, 1u);
	cpus->threads = MAX(cpus->threads, 1u);
	others = (uint64_t)cpus->sockets * cpus->threads;
	if (!cpus->cores)
		cpus->cores = MAX((unsigned int)(count / others), 1u);
	if ((count && others * cpus->cores != count) || others * cpus->cores > CPUS_MAX) {
		log_error("--cpus: %u sockets of %u cores of %u threads are not %u processors",
			  cpus->sockets, cpus->cores, cpus->threads, count ? count : CPUS_MAX);
		return -EINVAL;
	}
	return 0;
}

int options_cpus(char *text, struct machine_config *config)
{
	struct topology *cpus = &config->vm.cpus;
	unsigned int count = 0;
	char *item, *value;

	*cpus = (struct topology){0};
	for (bool first = true; (item = options_next_item(&text)); first = false) {
		bool is_count = first && !strchr(item, '=');

		value = is_count ? NULL : options_split_value(item);
		if ((is_count ? cpus_number("", item, &count) : cpus_item(item, value, cpus)) < 0)
			return -EINVAL;
	}
	return complete_cpus(cpus, count);
}

int options_pin(char *text, struct pin_options *pin)
{
	char *item;

	*pin = (struct pin_options){0};
	while ((item = options_next_item(&text))) {
		char *value = strchr(item, '=') ? options_split_value(item) : NULL;

		if (!value && !pin->vcpus && *item) {
			pin->vcpus = item;
		} else if (value && *value && strcmp(item, "io") == 0) {
			pin->io = value;
		} else {
			log_error("--pin: '%s': auto, processors (0-3 or 0+2) or io= with processors "
				  "is expected", item);
			return -EINVAL;
		}
	}
	return 0;
}

int options_halt_poll(const char *text, struct vm_options *vm)
{
	uint64_t us;

	if (parse_uint(text, 0, 1000000, &us) < 0) {
		log_error("--halt-poll %s: microseconds from 0 to 1000000 are expected", text);
		return -EINVAL;
	}
	vm->has_halt_poll = true;
	vm->halt_poll_us = (unsigned int)us;
	return 0;
}

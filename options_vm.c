/* SPDX-License-Identifier: MIT */
/* The machine's memory and processors. */
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
		[MEM_PAGES_DEFAULT] = "off",
		[MEM_PAGES_THP] = "thp",
		[MEM_PAGES_2M] = "2M",
		[MEM_PAGES_1G] = "1G",
	};

	for (unsigned int i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(value, names[i]) == 0) {
			*out = (enum mem_pages)i;
			return 0;
		}
	log_error("--mem: hugepages=%s: off, thp, 2M or 1G is expected", value);
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

int options_cpus(char *text, struct machine_config *config)
{
	uint64_t value;

	if (parse_uint(text, 1, UINT32_MAX, &value) < 0) {
		log_error("--cpus %s: a number from 1 on is expected", text);
		return -EINVAL;
	}
	config->vm.ncpus = (unsigned int)value;
	return 0;
}

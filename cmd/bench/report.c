/* SPDX-License-Identifier: MIT */
#include "cmd/bench/report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

#include "cmd/json.h"
#include "cmd/print.h"
#include "util/log.h"

#define NAME_COLUMNS 52
#define FORMAT 1 /* of the file */

/* --- text --- */

/* Three digits that count. */
static const char *number(double value, char *out, size_t len)
{
	int digits = value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3;

	snprintf(out, len, "%.*f", digits, value);
	return out;
}

void bench_print(struct bench_results *results)
{
	char low[32], median[32], high[32];

	printf("%-*s %10s %-5s %10s %10s\n", NAME_COLUMNS, "", "median", "", "10 %", "90 %");
	for (size_t i = 0; i < results->count; i++) {
		struct bench_result *result = &results->list[i];
		struct bench_summary s = bench_summarize(result);

		if (!result->count) {
			printf("%-*s %10s %s\n", NAME_COLUMNS, result->name, "-", result->why);
			continue;
		}
		printf("%-*s %10s %-5s %10s %10s\n", NAME_COLUMNS, result->name,
		       number(s.median, median, sizeof(median)), bench_unit_text(result->unit),
		       number(s.low, low, sizeof(low)), number(s.high, high, sizeof(high)));
	}
}

/* --- JSON --- */

static json_t *host_json(const struct lint *lint)
{
	json_t *host = json_object(), *looks = json_object();
	struct utsname name;

	if (uname(&name) == 0) {
		json_put_text(host, "kernel", name.release);
		json_put_text(host, "name", name.nodename);
	}
	for (size_t i = 0; i < lint->count; i++)
		json_put_text(looks, lint->list[i].name, lint->list[i].value);
	json_put(host, "looks", looks);
	return host;
}

static json_t *options_json(const struct bench_options *opts)
{
	json_t *options = json_object();

	json_put_number(options, "rounds", opts->rounds);
	json_put(options, "seconds", json_real(opts->seconds));
	json_put_text(options, "disk", opts->dir ? opts->dir : "in memory");
	return options;
}

static json_t *result_json(struct bench_result *result)
{
	struct bench_summary s = bench_summarize(result);
	json_t *entry = json_object();

	json_put_text(entry, "name", result->name);
	json_put_text(entry, "unit", bench_unit_text(result->unit));
	json_put(entry, "more-is-better", json_boolean(bench_more_is_better(result->unit)));
	json_put_number(entry, "samples", result->count);
	if (!result->count) {
		json_put_text(entry, "why", result->why);
		return entry;
	}
	json_put(entry, "median", json_real(s.median));
	json_put(entry, "low", json_real(s.low));
	json_put(entry, "high", json_real(s.high));
	return entry;
}

int bench_write_json(const char *path, const struct bench_options *opts, const struct lint *lint,
		     struct bench_results *results)
{
	json_t *root = json_object(), *list = json_array();
	time_t now = time(NULL);
	char when[32];
	int r;

	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
	json_put_number(root, "minivmm-bench", FORMAT);
	json_put_text(root, "version", MINIVMM_VERSION);
	json_put_text(root, "date", when);
	json_put(root, "host", host_json(lint));
	json_put(root, "options", options_json(opts));
	for (size_t i = 0; i < results->count; i++)
		json_array_append_new(list, result_json(&results->list[i]));
	json_put(root, "results", list);
	errno = EIO; /* it does not always say */
	r = json_dump_file(root, path, JSON_INDENT(4) | JSON_REAL_PRECISION(6));
	json_decref(root);
	if (r == 0)
		return 0;
	log_error("bench: --json %s: %s", path, strerror(errno));
	return -EIO;
}

/* --- comparing --- */

struct figures {
	double low, median, high;
	bool more_is_better;
	const char *unit;
};

static json_t *load(const char *path)
{
	json_error_t error;
	json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);

	if (!root) {
		log_error("bench compare: %s: %s", path, error.text);
		return NULL;
	}
	if (json_integer_value(json_object_get(root, "minivmm-bench")) == FORMAT &&
	    json_is_array(json_object_get(root, "results")))
		return root;
	log_error("bench compare: %s: not made by minivmm bench --json", path);
	json_decref(root);
	return NULL;
}

static bool get_figures(const json_t *entry, struct figures *out)
{
	const json_t *unit = json_object_get(entry, "unit");

	*out = (struct figures){
		json_number_value(json_object_get(entry, "low")),
		json_number_value(json_object_get(entry, "median")),
		json_number_value(json_object_get(entry, "high")),
		json_is_true(json_object_get(entry, "more-is-better")),
		json_is_string(unit) ? json_string_value(unit) : "",
	};
	return out->median > 0 && isfinite(out->median);
}

static const json_t *find(const json_t *root, const char *name)
{
	const json_t *entry, *other;
	size_t i;

	json_array_foreach(json_object_get(root, "results"), i, entry) {
		other = json_object_get(entry, "name");
		if (json_is_string(other) && strcmp(json_string_value(other), name) == 0)
			return entry;
	}
	return NULL;
}

/* Spreads that do not meet tell a change from noise. */
static const char *verdict(const struct figures *a, const struct figures *b)
{
	if (b->low > a->high)
		return a->more_is_better ? "better" : "worse";
	if (b->high < a->low)
		return a->more_is_better ? "worse" : "better";
	return "";
}

static void print_median(bool known, const struct figures *figures)
{
	char text[32];

	printf(" %10s", known ? number(figures->median, text, sizeof(text)) : "-");
}

/* Either may be NULL, or without figures: it was not measured there. */
static void compare_entries(const char *name, const json_t *before, const json_t *after)
{
	struct figures a, b;
	bool has_a = get_figures(before, &a), has_b = get_figures(after, &b);

	print_padded(name, NAME_COLUMNS);
	print_median(has_a, &a);
	print_median(has_b, &b);
	putchar(' ');
	print_padded(has_a ? a.unit : b.unit, 6);
	if (has_a && has_b)
		printf("%6.2f  %s", b.median / a.median, verdict(&a, &b));
	putchar('\n');
}

/* In the order of `before`; then what `after` alone has. */
static void compare_results(const json_t *before, const json_t *after)
{
	const json_t *entry;
	const char *name;
	size_t i;

	printf("%-*s %10s %10s %-6s%6s\n", NAME_COLUMNS, "", "before", "after", "", "ratio");
	json_array_foreach(json_object_get(before, "results"), i, entry) {
		name = json_string_value(json_object_get(entry, "name"));
		if (name)
			compare_entries(name, entry, find(after, name));
	}
	json_array_foreach(json_object_get(after, "results"), i, entry) {
		name = json_string_value(json_object_get(entry, "name"));
		if (name && !find(before, name))
			compare_entries(name, NULL, entry);
	}
}

static void say_another(const char *what, const char *key)
{
	printf("! another ");
	print_clean(key);
	printf(" (%s)\n", what);
}

/* What differs between two manifests, or is in one alone, makes figures differ. */
static void compare_objects(const char *what, const json_t *a, const json_t *b)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)a, key, value) {
		const json_t *other = json_object_get(b, key);

		if (json_is_object(value))
			compare_objects(what, value, other);
		else if (!other || !json_equal(value, (json_t *)other))
			say_another(what, key);
	}
	json_object_foreach((json_t *)b, key, value) {
		if (json_object_get(a, key))
			continue;
		if (json_is_object(value))
			compare_objects(what, NULL, value);
		else
			say_another(what, key);
	}
}

int bench_compare(const char *before, const char *after)
{
	json_t *a = load(before), *b = a ? load(after) : NULL;

	if (b) {
		compare_objects("host", json_object_get(a, "host"), json_object_get(b, "host"));
		compare_objects("options", json_object_get(a, "options"),
				json_object_get(b, "options"));
		compare_results(a, b);
	}
	json_decref(a);
	json_decref(b);
	return b ? 0 : -EINVAL;
}

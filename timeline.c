/* SPDX-License-Identifier: MIT */
#include "timeline.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "util/json_out.h"
#include "util/util.h"

static bool has_room(struct timeline *timeline)
{
	unsigned int capacity = MAX(2 * timeline->capacity, 64u);
	struct timeline_event *events;

	if (timeline->count < timeline->capacity)
		return true;
	events = reallocarray(timeline->events, capacity, sizeof(*events));
	if (!events)
		return false;
	timeline->events = events;
	timeline->capacity = capacity;
	return true;
}

void timeline_add(struct timeline *timeline, uint64_t ns, const char *fmt, ...)
{
	struct timeline_event *event;
	va_list args;

	if (!ns || !has_room(timeline))
		return;
	event = &timeline->events[timeline->count++];
	event->ns = ns;
	va_start(args, fmt);
	vsnprintf(event->what, sizeof(event->what), fmt, args);
	va_end(args);
}

/* They are few, and nearly in order. */
void timeline_sort(struct timeline *timeline)
{
	struct timeline_event *events = timeline->events;

	for (unsigned int i = 1; i < timeline->count; i++) {
		struct timeline_event event = events[i];
		unsigned int to = i;

		for (; to > 0 && events[to - 1].ns > event.ns; to--)
			events[to] = events[to - 1];
		events[to] = event;
	}
}

void timeline_clear(struct timeline *timeline)
{
	free(timeline->events);
	memset(timeline, 0, sizeof(*timeline));
}

void timeline_print(const struct timeline *timeline, uint64_t zero_ns, FILE *to)
{
	uint64_t last_ns = zero_ns;

	fprintf(to, "%12s %12s  %s\n", "ms", "after", "event");
	for (unsigned int i = 0; i < timeline->count; i++) {
		const struct timeline_event *event = &timeline->events[i];

		fprintf(to, "%12.3f %12.3f  %s\n", (double)(event->ns - zero_ns) / 1e6,
			(double)(event->ns - last_ns) / 1e6, event->what);
		last_ns = event->ns;
	}
}

void timeline_print_json(const struct timeline *timeline, uint64_t zero_ns, FILE *to)
{
	struct json_out out = { .to = to };

	json_out_open(&out, NULL, '{');
	json_out_open(&out, "events", '[');
	for (unsigned int i = 0; i < timeline->count; i++) {
		json_out_open(&out, NULL, '{');
		json_out_text(&out, "event", timeline->events[i].what);
		json_out_number(&out, "ns", timeline->events[i].ns - zero_ns);
		json_out_close(&out, '}');
	}
	json_out_close(&out, ']');
	json_out_close(&out, '}');
	fputc('\n', to);
}

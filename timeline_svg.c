/* SPDX-License-Identifier: MIT */
/*
 * As a picture: a row for each event, with what, when and a dot on the axis of time. The bar
 * before a dot is the time since the event above.
 */
#include "timeline.h"
#include "util/util.h"

#define ROW 18
#define TOP 48
#define LEFT 350 /* of the axis */
#define AXIS 600
#define TICKS 8

struct picture {
	FILE *to;
	uint64_t zero_ns;
	double width_ns;
	unsigned int height;
};

static double at(const struct picture *picture, uint64_t ns)
{
	return LEFT + AXIS * (double)(ns - picture->zero_ns) / picture->width_ns;
}

/* 1, 2 or 5 times a power of ten, and at most TICKS of them. */
static double tick_ns(double width_ns)
{
	double step = 1000;

	for (unsigned int i = 0; width_ns / step > TICKS; i++)
		step *= i % 3 == 1 ? 2.5 : 2;
	return step;
}

static void draw_axis(const struct picture *picture)
{
	double step = tick_ns(picture->width_ns);

	for (double ns = 0; ns <= picture->width_ns; ns += step) {
		double x = LEFT + AXIS * ns / picture->width_ns;

		fprintf(picture->to, "<path class=\"tick\" d=\"M%.1f %d V%u\"/>"
			"<text class=\"tick\" x=\"%.1f\" y=\"%d\">%.10g ms</text>\n", x, TOP - 8,
			picture->height - 8, x, TOP - 14, ns / 1e6);
	}
}

static void draw_text(FILE *to, const char *text)
{
	for (; *text; text++)
		switch (*text) {
		case '<': fputs("&lt;", to); break;
		case '>': fputs("&gt;", to); break;
		case '&': fputs("&amp;", to); break;
		default: fputc(*text < ' ' || *text > '~' ? '?' : *text, to);
		}
}

static void draw_event(const struct picture *picture, unsigned int row, uint64_t before_ns,
		       const struct timeline_event *event)
{
	unsigned int y = TOP + ROW * row + ROW / 2;
	double from = at(picture, before_ns), to = at(picture, event->ns);

	fprintf(picture->to, "<rect x=\"%.1f\" y=\"%u\" width=\"%.1f\" height=\"8\"/>"
		"<circle cx=\"%.1f\" cy=\"%u\" r=\"4\"/>"
		"<text class=\"ms\" x=\"110\" y=\"%u\">%.3f ms</text><text x=\"122\" y=\"%u\">",
		from, y - 4, to - from, to, y, y + 4,
		(double)(event->ns - picture->zero_ns) / 1e6, y + 4);
	draw_text(picture->to, event->what);
	fputs("</text>\n", picture->to);
}

void timeline_print_svg(const struct timeline *timeline, uint64_t zero_ns, FILE *to)
{
	struct picture picture = { to, zero_ns, 1, TOP + ROW * timeline->count + 16 };
	uint64_t before_ns = zero_ns;

	if (timeline->count)
		picture.width_ns = (double)MAX(
			timeline->events[timeline->count - 1].ns - zero_ns, 1u);
	fprintf(to, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\""
		" font-family=\"sans-serif\" font-size=\"12\">\n"
		"<style>rect{fill:#9ec1e8}circle{fill:#1f5fa8}.tick{stroke:#ddd;fill:none}"
		"text.tick{stroke:none;fill:#666;text-anchor:middle}"
		".ms{text-anchor:end;fill:#444}</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" style=\"fill:#fff\"/>\n",
		LEFT + AXIS + 40, picture.height);
	draw_axis(&picture);
	for (unsigned int i = 0; i < timeline->count; i++) {
		draw_event(&picture, i, before_ns, &timeline->events[i]);
		before_ns = timeline->events[i].ns;
	}
	fputs("</svg>\n", to);
}

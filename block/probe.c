/* SPDX-License-Identifier: MIT */
/* Signatures of image formats; only ever used to refuse, never to choose. */
#include <stddef.h>
#include <string.h>

#include "block/impl.h"
#include "util/util.h"

struct signature {
	const char *format;
	size_t offset;
	size_t len;
	const char *bytes;
};

static const struct signature signatures[] = {
	{"qcow2", 0, 8, "QFI\xfb\0\0\0\2"},
	{"qcow2", 0, 8, "QFI\xfb\0\0\0\3"},
	{"qcow", 0, 4, "QFI\xfb"},
	{"qed", 0, 4, "QED\0"},
	{"vmdk", 0, 4, "KDMV"},
	{"vmdk", 0, 4, "COWD"},
	{"vmdk", 0, 21, "# Disk DescriptorFile"},
	{"vdi", 64, 4, "\x7f\x10\xda\xbe"},
	{"vhdx", 0, 8, "vhdxfile"},
	{"vpc", 0, 8, "conectix"},
	{"luks", 0, 6, "LUKS\xba\xbe"},
	{"parallels", 0, 16, "WithoutFreeSpace"},
	{"parallels", 0, 16, "WithouFreSpacExt"},
};

const char *probe_format(const unsigned char *head, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(signatures); i++) {
		const struct signature *s = &signatures[i];

		if (range_fits(s->offset, s->len, len) &&
		    !memcmp(head + s->offset, s->bytes, s->len))
			return s->format;
	}
	return NULL;
}

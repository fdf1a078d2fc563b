/* SPDX-License-Identifier: MIT */
/* The peer of `mvblk bench` on compressed images: libqcow reads FILE from its start to its end. */
#include <libqcow.h>
#include <stdio.h>

int main(int argc, char **argv)
{
	static unsigned char buf[1 << 20];
	libqcow_file_t *file = NULL;
	long long total = 0;
	ssize_t n = -1;

	if (argc != 2 || libqcow_file_initialize(&file, NULL) != 1 ||
	    libqcow_file_open(file, argv[1], LIBQCOW_OPEN_READ, NULL) != 1) {
		fprintf(stderr, "usage: libqcow_read IMAGE\n");
		return 1;
	}
	while ((n = libqcow_file_read_buffer(file, buf, sizeof(buf), NULL)) > 0)
		total += n;
	printf("%lld\n", total);
	return n < 0;
}

/* SPDX-License-Identifier: MIT */
/* For a guest: a mark in the timeline of the machine it runs on (minivmm --timeline). */
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>

#define PORT 0xD4D

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "Usage: mark NUMBER (0 to 255)\n");
		return 2;
	}
	if (ioperm(PORT, 1, 1) < 0) {
		perror("mark: no rights to use I/O ports");
		return 1;
	}
	outb((unsigned char)strtoul(argv[1], NULL, 0), PORT);
	return 0;
}

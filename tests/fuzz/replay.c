/* SPDX-License-Identifier: MIT */
/* Stands in for libFuzzer's main: run the target on each file of the folders and files given. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static unsigned int ran;

static int replay_file(const char *path)
{
	FILE *file = fopen(path, "rb");
	struct stat st;
	uint8_t *data;
	size_t len;

	if (!file || fstat(fileno(file), &st) < 0)
		return -errno;
	/* An exact allocation, so that the sanitizer sees a read past the end. */
	data = malloc(st.st_size ? (size_t)st.st_size : 1);
	if (!data) {
		fclose(file);
		return -ENOMEM;
	}
	len = fread(data, 1, (size_t)st.st_size, file);
	fclose(file);
	LLVMFuzzerTestOneInput(data, len);
	free(data);
	ran++;
	return 0;
}

static int replay_folder(const char *path)
{
	struct dirent **list;
	int count = scandir(path, &list, NULL, alphasort);
	char name[4096];

	if (count < 0)
		return -errno;
	for (int i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "%s/%s", path, list[i]->d_name);
		if (list[i]->d_name[0] != '.' && replay_file(name) < 0)
			fprintf(stderr, "%s: %s\n", name, strerror(errno));
		free(list[i]);
	}
	free(list);
	return 0;
}

int main(int argc, char **argv)
{
	struct stat st;

	for (int i = 1; i < argc; i++) {
		if (stat(argv[i], &st) < 0) {
			fprintf(stderr, "%s: %s\n", argv[i], strerror(errno));
			return 1;
		}
		if (S_ISDIR(st.st_mode) ? replay_folder(argv[i]) : replay_file(argv[i]))
			return 1;
	}
	printf("%u inputs\n", ran);
	return ran ? 0 : 1;
}

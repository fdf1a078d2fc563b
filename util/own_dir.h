/* SPDX-License-Identifier: MIT */
/* Directories to which nobody but their owner writes, so that what lies there is the owner's. */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

/* A directory, and such a one. */
bool own_dir_safe(const struct stat *st);
/*
 * Open `path` below `at`, which is no link: ours, or with `or_roots` perhaps root's. The fd;
 * -EPERM if it is not safe, or another -errno. Silent.
 */
int own_dir_open(int at, const char *path, bool or_roots);
/* Ours; it is made, with `mode` whatever the umask, if it is not there and its parent is. */
int own_dir_make(int at, const char *path, mode_t mode);

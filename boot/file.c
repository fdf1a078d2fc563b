/* SPDX-License-Identifier: MIT */
#include "boot/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/lowmem.h"
#include "util/log.h"
#include "util/util.h"
#include "vmm/layout.h"
#include "vmm/mem.h"

static const char *open_remedy(int err)
{
	switch (err) {
	case EACCES:
		return " (make it readable for this user, or run as root)";
	case ENOENT:
	case ENOTDIR:
		return " (check the path)";
	default:
		return fd_remedy(err);
	}
}

static int check_stat(struct boot_file *file)
{
	struct stat st;

	if (fstat(file->fd, &st) < 0) {
		int err = errno;

		log_error("%s %s: %s", file->what, file->path, strerror(err));
		return -err;
	}
	if (S_ISDIR(st.st_mode)) {
		log_error("%s %s: is a directory (name the file in it)", file->what, file->path);
		return -EISDIR;
	}
	if (!S_ISREG(st.st_mode)) {
		log_error("%s %s: not a regular file (copy it to one)", file->what, file->path);
		return -EINVAL;
	}
	if (st.st_size == 0) {
		log_error("%s %s: the file is empty (install or build it again)", file->what,
			  file->path);
		return -ENODATA;
	}
	file->size_bytes = (uint64_t)st.st_size;
	return 0;
}

int boot_file_open(struct boot_file *file, const char *what, const char *path)
{
	int ret;

	*file = (struct boot_file){.what = what, .path = path};
	/* O_NONBLOCK: a FIFO must be refused, not waited for. */
	file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (file->fd < 0) {
		int err = errno;

		log_error("%s %s: %s%s", what, path, strerror(err), open_remedy(err));
		return -err;
	}
	ret = check_stat(file);
	if (ret < 0)
		boot_file_close(file);
	return ret;
}

void boot_file_close(struct boot_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	file->fd = -1;
}

int boot_file_read(const struct boot_file *file, uint64_t offset, void *buf, size_t len_bytes)
{
	int ret = pread_full(file->fd, buf, len_bytes, offset);

	if (ret == -ENODATA)
		log_error("%s %s: the file became shorter while in use (start again)", file->what,
			  file->path);
	else if (ret < 0)
		log_error("%s %s: cannot read: %s", file->what, file->path, strerror(-ret));
	return ret;
}

int boot_file_load(const struct boot_file *file, uint64_t offset, uint64_t len_bytes,
		   const struct mem *mem, uint64_t gpa)
{
	void *hva = mem_at(mem, gpa, len_bytes);

	if (!hva)
		return boot_file_no_room(file, mem, gpa + len_bytes);
	return boot_file_read(file, offset, hva, len_bytes);
}

int boot_initrd_load(const struct boot_file *initrd, const struct mem *mem, uint64_t floor,
		     uint64_t limit, uint64_t *gpa)
{
	uint64_t top = MIN(limit, mem_low_end(mem));

	floor = align_up(floor, 4096);
	if (floor > top || initrd->size_bytes > top - floor) {
		if (mem_low_end(mem) >= MIN(limit, LAYOUT_LOW_RAM_MAX)) {
			log_error("initrd %s: too large: %llu MiB do not fit below the %llu MiB "
				  "this kernel can reach (use a smaller one)", initrd->path,
				  (unsigned long long)(initrd->size_bytes >> 20),
				  (unsigned long long)(top >> 20));
			return -EFBIG;
		}
		return boot_file_no_room(initrd, mem, floor + initrd->size_bytes);
	}
	*gpa = align_down(top - initrd->size_bytes, 4096);
	/* Not mapped: small pages, each faulted in by itself, make a boot several per cent longer. */
	return boot_file_load(initrd, 0, initrd->size_bytes, mem, *gpa);
}

int boot_file_no_room(const struct boot_file *file, const struct mem *mem, uint64_t end_bytes)
{
	unsigned long long need = align_up(end_bytes, MIB(1)) >> 20;
	unsigned long long have = mem_total(mem) >> 20;

	if (end_bytes > LAYOUT_LOW_RAM_MAX)
		log_error("%s %s: too large: it needs memory up to %llu MiB, a guest has at most "
			  "%llu below 4 GiB (use a smaller one)", file->what, file->path, need,
			  (unsigned long long)(LAYOUT_LOW_RAM_MAX >> 20));
	else
		log_error("%s %s: needs at least %llu MiB of memory, the guest has %llu "
			  "(use --mem %lluM or more)", file->what, file->path, need, have, need);
	return -ENOMEM;
}

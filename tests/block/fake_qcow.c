/* SPDX-License-Identifier: MIT */
/*
 * A minivmm-qcow that misbehaves, in the way that its name says: fake-WAY. Where it does not, it
 * answers as the real one, with data that is all 0x5a.
 */
#include <endian.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/qcow/proto.h"

static const char *way;

static bool is(const char *what)
{
	return strcmp(way, what) == 0;
}

static void say(const void *packet, size_t len)
{
	if (send(QCOW_FD_SOCKET, packet, len, MSG_NOSIGNAL) < 0)
		exit(0);
}

static void hang(void)
{
	for (;;)
		pause();
}

/* What it may do instead of an answer, at `stage`: "ready", "open", "read". */
static void misbehave(const char *stage)
{
	static const char garbage[100] = "no packet of ours";
	size_t len = strlen(stage);

	if (strncmp(way, stage, len) != 0 || way[len] != '-')
		return;
	if (is("read-segv") || is("ready-segv") || is("open-segv"))
		raise(SIGSEGV);
	else if (strstr(way, "-exit"))
		exit(3);
	else if (strstr(way, "-hang"))
		hang();
	else if (strstr(way, "-garbage"))
		say(garbage, sizeof(struct qcow_reply));
	else if (strstr(way, "-short"))
		say(garbage, 3);
	else if (strstr(way, "-long"))
		say(garbage, sizeof(garbage));
	else if (strstr(way, "-empty"))
		say(garbage, 0);
	else if (strstr(way, "-close")) {
		close(QCOW_FD_SOCKET);
		hang();
	}
}

static void lie(struct qcow_reply *reply)
{
	if (reply->op == QCOW_OPEN) {
		reply->size_bytes += is("open-size") ? 512 : 0;
		reply->version += is("open-version");
		reply->encrypted = is("open-encrypted");
		reply->backed = is("open-backed") ? 1 : is("open-flag") ? 2 : 0;
		reply->failed = is("open-failed");
	}
	if (reply->op == QCOW_READ) {
		reply->len_bytes += is("read-more") ? 1 : is("read-less") ? -1u : 0;
		reply->id += is("read-other");
		reply->op += is("read-kind");
		reply->failed = is("read-failed") ? 1 : is("read-flag") ? 7 : 0;
	}
}

static void answer(const struct qcow_request *req, unsigned char *slot)
{
	struct qcow_reply reply = {.op = req->op, .id = req->id};
	uint32_t version;
	uint64_t size;

	if (pread(QCOW_FD_IMAGE, &version, 4, 4) != 4 || pread(QCOW_FD_IMAGE, &size, 8, 24) != 8)
		exit(1);
	if (req->op == QCOW_OPEN) {
		reply.version = be32toh(version);
		reply.size_bytes = be64toh(size);
	} else {
		memset(slot, 0x5a, req->len_bytes);
		reply.len_bytes = req->len_bytes;
	}
	misbehave(req->op == QCOW_OPEN ? "open" : "read");
	lie(&reply);
	if (is("read-early") && req->op == QCOW_READ) /* the next answer, too */
		say(&reply, sizeof(reply));
	say(&reply, sizeof(reply));
}

int main(int argc, char **argv)
{
	struct qcow_reply ready = {.op = QCOW_READY,
				   .sandbox = QCOW_SANDBOX_SECCOMP | QCOW_SANDBOX_LANDLOCK};
	struct qcow_request req;
	unsigned char *slot;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	way = strstr(argv[0], "fake-");
	way = way ? way + 5 : "";
	slot = mmap(NULL, QCOW_SLOT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, QCOW_FD_SLOT, 0);
	if (slot == MAP_FAILED)
		return 1;
	/* Its size is sealed. */
	if (ftruncate(QCOW_FD_SLOT, 0) == 0 || ftruncate(QCOW_FD_SLOT, 1 << 30) == 0)
		return 1;
	misbehave("ready");
	say(&ready, sizeof(ready));
	while (recv(QCOW_FD_SOCKET, &req, sizeof(req), 0) == sizeof(req))
		answer(&req, slot);
	return 0;
}

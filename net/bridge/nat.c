/* SPDX-License-Identifier: MIT */
/*
 * The only file that speaks to libnftables. A table is replaced in one transaction, which keeps
 * what passes passing, and what changed is told by listing it before and after.
 *
 * Guests reach out, and nobody reaches in but by an answer, or where somebody's rules translate an
 * address to a guest's (DNAT). What our chain accepts a chain of another table may drop all the
 * same.
 */
#include "net/bridge/nat.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <nftables/libnftables.h>

#include "util/log.h"

#define COMMANDS_BYTES 2048

static int open_nft(struct nft_ctx **out)
{
	struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);

	if (nft && nft_ctx_buffer_output(nft) == 0 && nft_ctx_buffer_error(nft) == 0) {
		*out = nft;
		return 0;
	}
	log_error("nftables: %s", strerror(ENOMEM));
	if (nft)
		nft_ctx_free(nft);
	return -ENOMEM;
}

/* libnftables says it in several lines, with the command below. */
static int fail(struct nft_ctx *nft, const char *name)
{
	const char *said = nft_ctx_get_error_buffer(nft);
	int len = said ? (int)strcspn(said, "\n") : 0;

	log_error("nftables: table ip " NAT_TABLE "%s: %.*s (the kernel must have nf_tables, and "
		  "its masquerading)", name, len ? len : 7, len ? said : "refused");
	return -EIO;
}

/* The table's text, for the caller to free; NULL: there is none. 0 or -ENOMEM; logs. */
static int list(struct nft_ctx *nft, const char *name, char **out)
{
	char command[64];

	*out = NULL;
	snprintf(command, sizeof(command), "list table ip " NAT_TABLE "%s", name);
	if (nft_run_cmd_from_buffer(nft, command)) {
		nft_ctx_get_error_buffer(nft); /* empties it; what changes the table says more */
		return 0;
	}
	*out = strdup(nft_ctx_get_output_buffer(nft));
	if (*out)
		return 0;
	log_error("nftables: %s", strerror(ENOMEM));
	return -ENOMEM;
}

/*
 * With br_netfilter, frames from port to port come this way, too: hence the first rule of `forward`
 * before those about what goes in, and the masquerade of nothing that stays on the bridge.
 */
static void write_commands(const char *name, const struct cidr *cidr, char out[COMMANDS_BYTES])
{
	struct cidr subnet = {cidr_first(cidr), cidr->prefix};
	char to[CIDR_TEXT_BYTES];

	cidr_format(&subnet, to);
	snprintf(out, COMMANDS_BYTES,
		 "table ip " NAT_TABLE "%s\n"
		 "delete table ip " NAT_TABLE "%s\n"
		 "table ip " NAT_TABLE "%s {\n"
		 "  chain postrouting {\n"
		 "    type nat hook postrouting priority srcnat; policy accept;\n"
		 "    ip saddr %s oifname != \"%s\" masquerade\n"
		 "  }\n"
		 "  chain forward {\n"
		 "    type filter hook forward priority filter; policy accept;\n"
		 "    iifname \"%s\" accept\n"
		 "    oifname \"%s\" ip daddr %s ct state established,related accept\n"
		 "    oifname \"%s\" ip daddr %s ct status dnat accept\n"
		 "    oifname \"%s\" ip daddr %s reject with icmp type admin-prohibited\n"
		 "  }\n"
		 "}\n", name, name, name, to, name, name, name, to, name, to, name, to);
}

int nat_set(const char *name, const struct cidr *cidr)
{
	char commands[COMMANDS_BYTES], *before = NULL, *after = NULL;
	struct nft_ctx *nft;
	int r = open_nft(&nft);

	if (r)
		return r;
	write_commands(name, cidr, commands);
	r = list(nft, name, &before);
	if (!r && nft_run_cmd_from_buffer(nft, commands))
		r = fail(nft, name);
	if (!r)
		r = list(nft, name, &after);
	if (!r)
		r = !before || !after || strcmp(before, after);
	free(before);
	free(after);
	nft_ctx_free(nft);
	return r;
}

int nat_remove(const char *name)
{
	char command[128], *before;
	struct nft_ctx *nft;
	int r = open_nft(&nft);

	if (r)
		return r;
	/* The first, so that the second finds one. */
	snprintf(command, sizeof(command),
		 "table ip " NAT_TABLE "%s\ndelete table ip " NAT_TABLE "%s\n", name, name);
	r = list(nft, name, &before);
	if (!r && nft_run_cmd_from_buffer(nft, command))
		r = fail(nft, name);
	if (!r)
		r = before != NULL;
	free(before);
	nft_ctx_free(nft);
	return r;
}

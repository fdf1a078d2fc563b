/* SPDX-License-Identifier: MIT */
/* The command line, parsed into what machine.h asks for. */
#pragma once

#include "machine.h"

enum options_result {
	OPTIONS_RUN,
	OPTIONS_HELP,    /* print options_help */
	OPTIONS_VERSION, /* print the version */
	OPTIONS_ERROR,   /* logged: usage, exit status 2 */
};

extern const char options_help[];

/* `config` points into `argv`, whose lists are cut up in place. */
enum options_result options_parse(int argc, char **argv, struct machine_config *config);

/* SPDX-License-Identifier: MIT */
/* Inside the command line's parser. What returns an int: 0, or -EINVAL and a line was logged. */
#pragma once

#include <stdbool.h>

#include "machine.h"

/*
 * Cut the next item off `*list`: the text up to a comma, with ",," standing for a comma. NULL
 * at the end.
 */
char *options_next_item(char **list);
/* Split "key=value"; a key alone has the value NULL. */
char *options_split_value(char *item);
/* on, off, or the key alone. `option` is "--disk", for messages. */
int options_switch(const char *option, const char *key, const char *value, bool *out);
int options_need_value(const char *option, const char *key, const char *value);
/* Microseconds, or auto: for loop_stay_awake. */
int options_poll(const char *option, const char *value, int *out);
/* `what` is "--net: fd", for messages. */
int options_fd(const char *what, const char *value, int *out);

/* The texts of --mem, --cpus and so on; of one --disk, and of one --net. */
int options_mem(char *text, struct machine_config *config);
int options_cpus(char *text, struct machine_config *config);
int options_pin(char *text, struct pin_options *pin);
int options_halt_poll(const char *text, struct vm_options *vm);
int options_disk(char *text, struct machine_config *config);
int options_net(char *text, struct machine_config *config);

/* SPDX-License-Identifier: MIT */
/* How a machine's processors are divided, and the APIC ids that say so (SDM 3A, 9.9.1). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct topology {
	unsigned int sockets;
	unsigned int cores;   /* of a socket */
	unsigned int threads; /* of a core */
};

unsigned int topology_count(const struct topology *topology);
/* The bits of an APIC id that tell apart a core's threads, and a socket's threads. */
unsigned int topology_core_bits(const struct topology *topology);
unsigned int topology_socket_bits(const struct topology *topology);
/* Of a processor by its index: a core's threads follow one another, as do a socket's cores. */
uint32_t topology_apic_id(const struct topology *topology, unsigned int index);
/* Whether an id does not fit xAPIC's, of which 255 means all. */
bool topology_needs_x2apic(const struct topology *topology);

/* SPDX-License-Identifier: MIT */
#include "vmm/topology.h"

/* Bits that tell `n` ids apart. */
static unsigned int id_bits(unsigned int n)
{
	unsigned int bits = 0;

	while (1ull << bits < n)
		bits++;
	return bits;
}

unsigned int topology_count(const struct topology *topology)
{
	return topology->sockets * topology->cores * topology->threads;
}

unsigned int topology_core_bits(const struct topology *topology)
{
	return id_bits(topology->threads);
}

unsigned int topology_socket_bits(const struct topology *topology)
{
	return id_bits(topology->threads) + id_bits(topology->cores);
}

uint32_t topology_apic_id(const struct topology *topology, unsigned int index)
{
	unsigned int thread = index % topology->threads;
	unsigned int core = index / topology->threads % topology->cores;
	unsigned int socket = index / topology->threads / topology->cores;

	return socket << topology_socket_bits(topology) | core << topology_core_bits(topology) |
	       thread;
}

bool topology_needs_x2apic(const struct topology *topology)
{
	return topology_apic_id(topology, topology_count(topology) - 1) >= 255;
}

/* SPDX-License-Identifier: MIT */
#include "net/net.h"

void net_identify(const struct net *net, struct net_identity *out)
{
	*out = (struct net_identity){ 0 };
	net->ops->identify(net, out);
}

unsigned int net_send_each(struct net *net, unsigned int queue, const struct net_frame *frames,
			   unsigned int count, int *error)
{
	for (unsigned int i = 0; i < count; i++) {
		ssize_t r = net->ops->send(net, queue, frames[i].iov, frames[i].iovcnt);

		if (r >= 0)
			continue;
		*error = (int)r;
		return i;
	}
	return count;
}

unsigned int net_send(struct net *net, unsigned int queue, const struct net_frame *frames,
		      unsigned int count, int *error)
{
	if (net->ops->send_many)
		return net->ops->send_many(net, queue, frames, count, error);
	return net_send_each(net, queue, frames, count, error);
}

void net_close(struct net *net)
{
	if (net)
		net->ops->destroy(net);
}

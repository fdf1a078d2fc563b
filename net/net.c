/* SPDX-License-Identifier: MIT */
#include "net/net.h"

void net_identify(const struct net *net, struct net_identity *out)
{
	*out = (struct net_identity){ 0 };
	net->ops->identify(net, out);
}

void net_close(struct net *net)
{
	if (net)
		net->ops->destroy(net);
}

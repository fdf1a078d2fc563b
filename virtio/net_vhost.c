/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The kernel, by vhost-net, can serve a pair of virtqueues itself: a thread of its own moves
 * frames between guest memory and the TAP, and nothing of ours runs for them:
 *
 *	doorbell	KVM, the kick eventfd, the kernel's thread
 *	interrupt	the kernel's thread, the vector's eventfd, KVM
 *
 * A pair is lent when it comes into use, and taken back when it goes out of use, at a reset at
 * the latest. Taking the TAP away (VHOST_NET_SET_BACKEND) returns when the thread is done with
 * the rings, so that no guest memory is written afterwards. Everything but the frames stays here:
 * the control queue, the link, the TAP's offloads, filter and queues. Where a queue has no MSI-X
 * vector its interrupts come by an eventfd, and our loop passes them on.
 *
 * The kernel has no answer to a driver's mistakes but to complain (VHOST_SET_VRING_ERR). Then all
 * that is lent comes back for the rest of the life, and what serves it here finds the mistake and
 * treats it as always. Some chains it skips as it complains, and goes on behind them; which they
 * were nobody can tell, so that is the end of the device until its reset.
 *
 * It complains and skips, too, when the TAP is gone; then all frames are dropped here.
 */
#include <errno.h>
#include <linux/vhost.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "util/log.h"
#include "virtio/net_impl.h"
#include "vmm/mem.h"

#define FEATURE(bit) (1ull << (bit))
/* Those of a virtio-net that concern the rings and the header, which is 12 bytes by VERSION_1:
 * as many as the TAP's own, which so is what lies in the rings. */
#define KERNEL_FEATURES                                                                            \
	(FEATURE(VIRTIO_F_VERSION_1) | FEATURE(VIRTIO_NET_F_MRG_RXBUF) |                           \
	 FEATURE(VIRTIO_RING_F_INDIRECT_DESC) | FEATURE(VIRTIO_RING_F_EVENT_IDX))

/* A vhost-net has a ring each way. */
#define RING_RX 0u
#define RING_TX 1u

static int fd_of(const struct net_pair *pair)
{
	return pair->rx.net->net->vhost_fds[pair->rx.pair];
}

/* `arg` is only read, but by VHOST_GET_ requests. */
static int control(int fd, unsigned long request, const void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

/* --- once per life --- */

static int set_memory(int fd, const struct mem *mem)
{
	union {
		struct vhost_memory memory;
		uint8_t bytes[sizeof(struct vhost_memory) +
			      MEM_REGIONS_MAX * sizeof(struct vhost_memory_region)];
	} arg = { .memory.nregions = mem->count };
	struct vhost_memory_region *regions = arg.memory.regions;

	for (unsigned int i = 0; i < mem->count; i++)
		regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = mem->regions[i].gpa,
			.memory_size = mem->regions[i].len_bytes,
			.userspace_addr = (uintptr_t)mem->regions[i].hva,
		};
	return control(fd, VHOST_SET_MEM_TABLE, &arg);
}

static int prepare(struct virtio_net *net)
{
	uint64_t features = net->dev.features & KERNEL_FEATURES;
	int r = 0;

	for (unsigned int i = 0; !r && i < net->pair_count; i++) {
		r = control(net->net->vhost_fds[i], VHOST_SET_FEATURES, &features);
		if (!r)
			r = set_memory(net->net->vhost_fds[i], net->dev.mem);
	}
	return r;
}

static void complained(void *arg)
{
	struct virtio_net *net = arg;

	net_link_look(net);
	if (net->lost)
		return;
	log_debug("%s: vhost-net gives up: frames go through minivmm until the guest's reset",
		  net->dev.name);
	counter_set(&net->live->vhost_left, 1);
	net_leave_kernel(net);
}

static int watch(struct virtio_net *net)
{
	net->vhost_error_fd = eventfd(0, EFD_CLOEXEC);
	if (net->vhost_error_fd < 0)
		return -errno;
	net->vhost_error_watch =
		loop_watch_event(net->dev.loop, net->vhost_error_fd, complained, net);
	if (net->vhost_error_watch)
		return 0;
	close(net->vhost_error_fd);
	return -ENOMEM;
}

void net_vhost_finish(struct virtio_net *net)
{
	loop_unwatch(net->dev.loop, net->vhost_error_watch);
	if (net->vhost_error_watch)
		close(net->vhost_error_fd);
	net->vhost_error_watch = NULL;
	net->vhost = false;
}

static void cannot(struct virtio_net *net, int r)
{
	log_guest(&net->dev.log_limit, "%s: frames go through minivmm, vhost-net cannot: %s",
		  net->dev.name, strerror(-r));
	net->vhost = false;
	counter_set(&net->live->vhost_left, 1);
}

/*
 * Without merging the kernel does not set num_buffers (5.1.6.4.1), and it says DATA_VALID to a
 * driver that wants no checksums, too.
 */
static bool keeps_rules(const struct virtio_net *net)
{
	return virtio_has(&net->dev, VIRTIO_NET_F_MRG_RXBUF) &&
	       virtio_has(&net->dev, VIRTIO_NET_F_GUEST_CSUM);
}

void net_vhost_init(struct virtio_net *net)
{
	int r;

	if (!net->net->vhost || net->lost)
		return;
	if (!keeps_rules(net)) {
		log_debug("%s: frames go through minivmm: the driver does without mergeable "
			  "buffers or checksums", net->dev.name);
		counter_set(&net->live->vhost_left, 1);
		return;
	}
	r = prepare(net);
	if (!r)
		r = watch(net);
	if (r) {
		net_vhost_finish(net);
		cannot(net, r);
		return;
	}
	net->vhost = true;
	counter_set(&net->live->vhost_left, 0);
}

/* --- interrupts --- */

static void pass_on(void *arg)
{
	struct net_lent *lent = arg;
	const struct virtio_transport *transport = &lent->net->dev.transport;

	if (transport->queue_irq)
		transport->queue_irq(transport->owner, lent->queue);
}

static void drop_irq(struct net_lent *lent)
{
	if (!lent->irq_watch)
		return;
	loop_unwatch(lent->net->dev.loop, lent->irq_watch);
	close(lent->irq_fd);
	lent->irq_watch = NULL;
}

static int own_irq(struct net_lent *lent)
{
	if (lent->irq_watch)
		return lent->irq_fd;
	lent->irq_fd = eventfd(0, EFD_CLOEXEC);
	if (lent->irq_fd < 0)
		return -errno;
	lent->irq_watch = loop_watch_event(lent->net->dev.loop, lent->irq_fd, pass_on, lent);
	if (lent->irq_watch)
		return lent->irq_fd;
	close(lent->irq_fd);
	return -ENOMEM;
}

static int set_irq(int fd, unsigned int ring, struct net_lent *lent)
{
	const struct virtio_transport *transport = &lent->net->dev.transport;
	struct vhost_vring_file file = { .index = ring, .fd = -1 };
	bool own;
	int r;

	if (transport->queue_irq_fd)
		file.fd = transport->queue_irq_fd(transport->owner, lent->queue);
	own = file.fd < 0;
	if (own)
		file.fd = own_irq(lent);
	if (file.fd < 0)
		return file.fd;
	r = control(fd, VHOST_SET_VRING_CALL, &file);
	if (!r && !own) {
		if (lent->irq_watch)
			pass_on(lent); /* what came by it and was not heard yet */
		drop_irq(lent);
	}
	return r;
}

void net_vhost_irqs_moved(struct virtio_net *net)
{
	int r = 0;

	for (unsigned int i = 0; !r && i < net->pairs_used; i++) {
		struct net_pair *pair = &net->pairs[i];

		if (!pair->lent)
			continue;
		r = set_irq(fd_of(pair), RING_RX, &pair->lent_rx);
		if (!r)
			r = set_irq(fd_of(pair), RING_TX, &pair->lent_tx);
	}
	if (!r)
		return;
	cannot(net, r);
	net_leave_kernel(net);
}

/* --- rings --- */

static int set_place(int fd, unsigned int ring, const struct virtqueue *vq)
{
	struct vhost_vring_state state = { .index = ring };
	struct vhost_vring_addr addr = { .index = ring };
	struct vq_place place;
	int r;

	vq_lend(vq, &place);
	state.num = place.size;
	r = control(fd, VHOST_SET_VRING_NUM, &state);
	if (r)
		return r;
	state.num = place.next;
	r = control(fd, VHOST_SET_VRING_BASE, &state);
	if (r)
		return r;
	addr.desc_user_addr = (uintptr_t)place.desc;
	addr.avail_user_addr = (uintptr_t)place.avail;
	addr.used_user_addr = (uintptr_t)place.used;
	return control(fd, VHOST_SET_VRING_ADDR, &addr);
}

static int set_event(int fd, unsigned long request, unsigned int ring, int event_fd)
{
	struct vhost_vring_file file = { .index = ring, .fd = event_fd };

	return control(fd, request, &file);
}

static int set_tap(int fd, unsigned int ring, int tap_fd)
{
	return set_event(fd, VHOST_NET_SET_BACKEND, ring, tap_fd);
}

static int set_ring(int fd, unsigned int ring, struct net_lent *lent)
{
	const struct virtio_queue *queue = &lent->net->dev.queues[lent->queue];
	int r = set_place(fd, ring, queue->vq);

	if (!r)
		r = set_irq(fd, ring, lent);
	if (!r)
		r = set_event(fd, VHOST_SET_VRING_ERR, ring, lent->net->vhost_error_fd);
	if (!r)
		r = set_event(fd, VHOST_SET_VRING_KICK, ring, queue->kick_fd);
	return r;
}

/* Whatever was set up of it. Nothing of this can fail on a file that is ours. False: it skipped
 * chains. */
static bool clear_ring(int fd, unsigned int ring, struct net_lent *lent)
{
	struct vhost_vring_state state = { .index = ring };

	set_tap(fd, ring, -1);
	control(fd, VHOST_GET_VRING_BASE, &state);
	set_event(fd, VHOST_SET_VRING_KICK, ring, -1);
	set_event(fd, VHOST_SET_VRING_CALL, ring, -1);
	set_event(fd, VHOST_SET_VRING_ERR, ring, -1);
	drop_irq(lent);
	return vq_resume(lent->net->dev.queues[lent->queue].vq, (uint16_t)state.num);
}

static bool take_back(struct net_pair *pair)
{
	bool rx_whole = clear_ring(fd_of(pair), RING_RX, &pair->lent_rx);
	bool tx_whole = clear_ring(fd_of(pair), RING_TX, &pair->lent_tx);

	return rx_whole && tx_whole;
}

static int lend(struct net_pair *pair)
{
	int fd = fd_of(pair), tap_fd = pair->rx.net->net->fds[pair->rx.pair];
	int r = set_ring(fd, RING_RX, &pair->lent_rx);

	if (!r)
		r = set_ring(fd, RING_TX, &pair->lent_tx);
	if (!r)
		r = set_tap(fd, RING_RX, tap_fd);
	if (!r)
		r = set_tap(fd, RING_TX, tap_fd);
	return r;
}

bool net_vhost_start(struct net_pair *pair)
{
	struct virtio_net *net = pair->rx.net;
	struct virtio_dev *dev = &net->dev;
	int r;

	if (!net->vhost || !dev->queues[pair->lent_rx.queue].vq ||
	    !dev->queues[pair->lent_tx.queue].vq)
		return false;
	r = lend(pair);
	if (r) {
		take_back(pair);
		cannot(net, r);
		return false;
	}
	pair->lent = true;
	virtio_lend_doorbell(dev, pair->lent_rx.queue);
	virtio_lend_doorbell(dev, pair->lent_tx.queue);
	/* Buffers may have been there, and kicked for, before. */
	virtio_kick(dev, pair->lent_rx.queue);
	virtio_kick(dev, pair->lent_tx.queue);
	return true;
}

bool net_vhost_stop(struct net_pair *pair)
{
	struct virtio_dev *dev = &pair->rx.net->dev;
	bool whole;

	if (!pair->lent)
		return true;
	whole = take_back(pair);
	pair->lent = false;
	virtio_take_doorbell(dev, pair->lent_rx.queue);
	virtio_take_doorbell(dev, pair->lent_tx.queue);
	return whole;
}

/* SPDX-License-Identifier: MIT */
/* Random bytes arrive in all of a buffer, and are not the same twice. */
#include "guest/lib/guest.h"
#include "guest/lib/virtio.h"

#define BYTES 64

void guest_main(void)
{
	static uint64_t first[BYTES / 8], second[BYTES / 8];
	struct vdev dev;
	struct vqueue queue;

	become_user();
	vdev_find(&dev, VIRTIO_RNG, 0);
	vdev_begin(&dev, 0);
	vqueue_init(&queue, &dev, 0, 0);
	vdev_go(&dev);
	vqueue_chain(&queue, 0, &(struct vbuf){first, BYTES}, 0, 1);
	vqueue_chain(&queue, 1, &(struct vbuf){second, BYTES}, 0, 1);
	vqueue_offer(&queue, 0);
	vqueue_offer(&queue, 1);
	vqueue_kick(&queue);
	for (int i = 0; i < 2; i++)
		CHECK_EQ(vqueue_wait(&queue).len, BYTES);
	for (int i = 0; i < BYTES / 8; i++) {
		CHECK(first[i]);
		CHECK(first[i] != second[i]);
	}
}

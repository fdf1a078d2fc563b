/* SPDX-License-Identifier: MIT */
/* virtio over PCI, modern only (virtio 1.2, section 4.1): MSI-X, ioeventfd doorbells. */
#pragma once

struct pci_host;
struct virtio_dev;
struct virtio_pci;
struct vm;

/* Put `dev` on `host`. The transport refers to it and does not own it. 0 or -errno. */
int virtio_pci_create(struct vm *vm, struct pci_host *host, struct virtio_dev *dev,
		      struct virtio_pci **out);
/* vCPUs are stopped, `dev` is idle. Accepts NULL. */
void virtio_pci_destroy(struct virtio_pci *pci);

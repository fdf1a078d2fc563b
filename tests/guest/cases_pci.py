# SPDX-License-Identifier: MIT
"""Address spaces: memory, configuration space, BARs, MSI-X; and the entropy device."""

from cases import check

MIB = 1 << 20
GIB = 1 << 30


def pci(host):
    result = host.passes("pci", "--disk", host.disk("disk.raw", MIB))
    check("functions\n" in result.out, result)


def bars(host):
    host.passes("bars", "--disk", host.disk("disk.raw", MIB, b"\xff" * 512))


def msix(host):
    host.passes("msix", "--disk", host.disk("disk.raw", MIB))


def memory(host):
    for size, low, high in ((64 * MIB, 64 * MIB, 0), (3 * GIB, 3 * GIB, 0),
                            (3 * GIB + MIB, 3 * GIB, 4 * GIB + MIB),
                            (5 * GIB, 3 * GIB, 6 * GIB)):
        # a host with less memory warns, and the guest touches next to nothing of it
        host.passes("memory", "--mem", size, cmdline=f"low={low:#x} high={high:#x}",
                    messages=True)


def rng(host):
    host.passes("rng")


CASES = {
    "pci": pci,
    "bars": bars,
    "memory": memory,
    "msix": msix,
    "rng": rng,
}

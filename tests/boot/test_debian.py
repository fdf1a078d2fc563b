# SPDX-License-Identifier: MIT
"""Debian's stock kernels, and the small one, boot Debian with systemd to a login."""

import re

import pytest


# What 6.12 says on every AMD machine without frequency scaling, QEMU's too; and what comes with
# any warning, such as that of a processor that the emulation kept waiting.
HARMLESS = r"amd_pstate: the _CPC object is not present|Modules linked in:|Hardware name:"


def bad_messages(vm):
    """Errors and warnings of the guest's kernel about what we show it."""
    lines = vm.check("dmesg -l emerg,alert,crit,err,warn | grep -iE 'acpi|pci|msi|virtio'; "
                     "test ${PIPESTATUS[0]} = 0").splitlines()
    return [line for line in lines
            if re.search(r"(?i)acpi|\bpci|\bmsi|virtio", line) and not re.search(HARMLESS, line)]


def kernels_and_cpus():
    """All of them take half an hour where emulated: some of each kind, and the rest with --all."""
    usual = {("cloud", 1), ("cloud", 8), ("6.12-cloud", 2), ("generic", 1), ("6.12", 1)}
    for kernel in ("cloud", "6.12-cloud", "generic", "6.12"):
        for cpus in (1, 2, 8):
            marks = [] if (kernel, cpus) in usual else [pytest.mark.long]
            marks += [pytest.mark.smp] if cpus > 1 else []
            yield pytest.param(kernel, cpus, marks=marks)


@pytest.mark.parametrize("kernel, cpus", kernels_and_cpus())
def test_stock_kernel(boot, kernel, cpus):
    vm = boot(kernel, cpus=cpus)
    assert vm.check("nproc").strip() == str(cpus)
    assert bad_messages(vm) == []
    vm.check("hwclock -r")
    vm.poweroff()


@pytest.mark.smp
@pytest.mark.parametrize("disk", ["debian.qcow2", "debian-gpt.raw"])
def test_plain_call(boot, images, disk):
    """No initrd and no command line: minivmm finds the root itself."""
    vm = boot("bzImage", disks=["%s/%s" % (images, disk)], mem="2G", cpus=8)
    assert vm.check("nproc").strip() == "8"
    assert vm.check("findmnt -no SOURCE /").strip() == (
        "/dev/vda1" if "gpt" in disk else "/dev/vda")
    assert bad_messages(vm) == []
    vm.poweroff()


def test_elf_kernel(boot):
    """A vmlinux, entered by PVH."""
    vm = boot("vmlinux")
    assert bad_messages(vm) == []
    assert vm.check("systemctl --failed --plain --no-legend") == ""
    vm.poweroff()

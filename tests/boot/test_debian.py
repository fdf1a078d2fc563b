# SPDX-License-Identifier: MIT
"""Debian's stock kernels, and the small one, boot Debian with systemd to a login."""

import re
import tempfile

import pytest

from vm import CMDLINE, LOGIN_S, MINIVMM, SLOW, VM


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
    yield pytest.param("rt", 1, marks=pytest.mark.long)


# Sockets, cores and threads of guests with so many processors. An emulated AMD processor has no
# TOPOEXT, without which Linux before 6.12 sees no threads.
SHAPES = {1: (1, 1, 1), 2: (1, 1, 2), 8: (2, 4, 1)}


@pytest.mark.parametrize("kernel, cpus", kernels_and_cpus())
def test_stock_kernel(boot, kernel, cpus):
    """As many processors as it is told of, where it is told; and all of its memory is there."""
    sockets, cores, threads = SHAPES[cpus]
    vm = boot(kernel, cpus=cpus, options=[
        "--cpus", "%d,sockets=%d,threads=%d" % (cpus, sockets, threads),
        "--mem", "512M,prefault,shared"])
    seen = vm.check("lscpu -p=CPU,CORE,SOCKET | grep -v '#'").split()
    assert len(seen) == cpus
    if MINIVMM != "qemu" and (threads == 1 or "6.12" in kernel):
        assert seen == ["%d,%d,%d" % (cpu, cpu // threads, cpu // threads // cores)
                        for cpu in range(cpus)]
    assert bad_messages(vm) == []
    vm.check("hwclock -r")
    vm.poweroff()


# An initramfs has neither awk nor grep.
PLACES = """while read a t name; do [ $name = _text ] && echo virtual $a && break; done \
</proc/kallsyms; while read a c name; do [ "$name" = "Kernel code" ] && echo physical $a; done \
</proc/iomem; true"""


def places_of(images, kernel, words, log):
    """Where it is, of a boot that goes as far as the initramfs's own shell."""
    vm = VM("%s/vmlinuz-%s" % (images, kernel), "%s/initrd-%s" % (images, kernel),
            "console=ttyS0 quiet break=top" + words, options=["-v"], log=log)
    with vm:
        vm.expect(r"\(initramfs\) ", LOGIN_S)
        assert "unpacked by the guest" not in vm.said
        vm.send(PLACES + "\n")
        virtual = vm.expect(r"virtual ([0-9a-f]+)\n", 10 * SLOW)[1]
        physical = vm.expect(r"physical ([0-9a-f]+)-", 10 * SLOW)[1]
        vm.send("reboot -f\n")
        assert vm.wait() == 0
    return {"virtual": virtual, "physical": physical}


@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own")
@pytest.mark.parametrize("kernel, boots", [
    ("cloud", 3), *(pytest.param(kernel, 20, marks=pytest.mark.long)
                    for kernel in ("cloud", "generic", "6.12-cloud", "6.12", "rt"))])
def test_kernel_at_random(images, log, kernel, boots):
    """Unpacked by the host, and somewhere else each time; nowhere special if it is not to be."""
    seen = [places_of(images, kernel, "", log) for _ in range(boots)]
    # Of 500 places and, in 512 MiB with an initrd, some 200.
    assert len({place["virtual"] for place in seen}) > boots * 0.75, seen
    assert len({place["physical"] for place in seen}) > boots * 0.65, seen
    assert places_of(images, kernel, " nokaslr", log) == {
        "virtual": "ffffffff81000000", "physical": "01000000"}


@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own")
def test_kernel_from_cache(boot):
    """The second start needs no unpacking; and it is not placed at random if that is not wanted."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as cache:
        prefix = ["env", "XDG_CACHE_HOME=" + cache]
        vm = boot("6.12-cloud", options=["-v"], prefix=prefix)
        assert "from the cache" not in vm.said and "kernel cache" not in vm.said
        vm.poweroff()
        vm = boot("6.12-cloud", options=["-v", "--kaslr", "off"], prefix=prefix)
        assert "unpacked before, from the cache" in vm.said
        places = dict(line.split() for line in vm.check(PLACES).splitlines())
        assert places["virtual"] == "ffffffff81000000"
        assert places["physical"].startswith("01000000-")
        vm.poweroff()


# The setup header's word that says how long the packed kernel is.
PAYLOAD_LENGTH = 0x24C


@pytest.mark.skipif(MINIVMM == "qemu", reason="of minivmm's own")
def test_kernel_unpacks_itself(boot, images):
    """Its header does not say what is packed: it starts by its own code all the same."""
    image = bytearray((images / "vmlinuz-cloud").read_bytes())
    image[PAYLOAD_LENGTH:PAYLOAD_LENGTH + 4] = bytes(4)
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        file.write(image)
        file.flush()
        vm = boot("cloud", path=file.name, options=["-v"])
    said = [line for line in vm.said.splitlines() if "unpacked" in line]
    assert said == ["minivmm: kernel %s: unpacked by the guest itself: its header does not say "
                    "enough" % file.name]
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

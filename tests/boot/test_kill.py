# SPDX-License-Identifier: MIT
"""minivmm is killed under load, again and again: the image is whole, and no flushed write is lost.

In the guest one program writes numbered blocks, syncs, and only then says the number; fio writes
at random beside it. After kill -9 qemu-img checks the image, and the next guest on it finds every
number that was said, or a later one, and every block of fio's with its checksum.

KILLS=n sets how often (default 3).
"""

import contextlib
import os
import random
import re
import shlex
import subprocess
import time

import pytest

from conftest import show
from vm import MINIVMM, SLOW, VM

KILLS = int(os.environ.get("KILLS", "3"))
PER_IMAGE = 5
CMDLINE = "console=ttyS0 root=/dev/vda ro init=/bin/sh quiet"

# Block n goes to slot(n), 8 of them between two syncs. Each slot has a cluster of its own, so
# that nearly every block changes tables, which is what may be lost.
COMMON = r"""
use strict; use IO::Handle; use Fcntl;
my $slots = 4096; sub slot { return ($_[0] * 2654435761 >> 7) % $slots; }
sysopen(my $disk, "/dev/vdb", O_RDWR) or die "open: $!"; $| = 1;
"""
WRITER = COMMON + r"""
for (my $n = $ARGV[0]; ; $n++) {
	sysseek($disk, 65536 * slot($n), 0); syswrite($disk, pack("Q", $n) x 512) == 4096 or die "$!";
	next if $n % 8; $disk->sync or die "sync: $!"; print "said $n.\n";
}
"""
READER = COMMON + r"""
my (%want, $max, $bad) = (); $max = $bad = 0;
while (my ($first, $said) = splice(@ARGV, 0, 2)) { $want{slot($_)} = $_ for $first .. $said; }
for my $s (0 .. $slots - 1) {
	sysseek($disk, 65536 * $s, 0); sysread($disk, my $data, 4096) == 4096 or die "read: $!";
	my $n = unpack("Q", $data); my $want = $want{$s} // 0;
	$max = $n if $n > $max;
	next if $n >= $want && $data eq pack("Q", $n) x 512 && (!$n || slot($n) == $s);
	print "slot $s holds $n, not $want\n"; $bad++;
}
print "bad $bad max $max\n";
"""
FIO = ("fio --name=load --filename=/dev/vdb --offset=300M --size=8M --ioengine=libaio --direct=1 "
       "--verify=crc32c --verify_fatal=1 --verify_state_save=0 --output-format=terse --thread ")
FILL = FIO + "--rw=write --bs=64k --verify_interval=4k --iodepth=4 --do_verify=0 --end_fsync=1"
LOAD = FIO + ("--rw=randwrite --bs=4k --iodepth=16 --do_verify=0 --norandommap --randrepeat=0 "
              "--fsync=64 --time_based --runtime=3600")
VERIFY = FIO + "--rw=read --bs=64k --verify_interval=4k --iodepth=8"


def sh(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)


class Series:
    """One image, and what was said to be on it."""

    def __init__(self, directory, number):
        options, self.backed = (("", False), ("cluster_size=4k", False),
                                ("compat=0.10,cluster_size=4k", True))[number % 3]
        self.path = "%s/kill%d.qcow2" % (directory, number)
        self.said = []  # first and last of each run
        below = []
        if self.backed:
            base = "%s/kill-base.raw" % directory
            sh("truncate", "-s", "256M", base)
            below = ["-b", base, "-F", "raw"]
        done = sh("qemu-img", "create", "-q", "-f", "qcow2", *below,
                  *(["-o", options] if options else []), self.path, "512M")
        assert done.returncode == 0, done.stdout

    def disk(self):
        return self.path + (",backing=on" if self.backed else "")

    def check(self):
        """Once io_uring has let go of the files of the process that was killed."""
        for _ in range(100):
            done = sh("qemu-img", "check", "-f", "qcow2", self.path)
            if "lock" not in done.stdout:
                break
            time.sleep(0.2)
        assert done.returncode in (0, 3), done.stdout
        return done.returncode

    def snapshot(self):
        """What is there is shared from now on: writes copy."""
        sh("qemu-img", "snapshot", "-d", "k", self.path)
        done = sh("qemu-img", "snapshot", "-c", "k", self.path)
        assert done.returncode == 0, done.stdout


def perl(vm, name, text):
    vm.check("printf %%s %s >/tmp/%s" % (shlex.quote(text), name))


def verify(vm, series):
    """All that was said is there; the highest number that is."""
    if not series.said:
        vm.check(FILL, 20 * SLOW)
        return 0
    perl(vm, "reader", READER)
    out = vm.check("perl /tmp/reader " + " ".join(map(str, series.said)), 20 * SLOW)
    assert "bad 0 " in out, out
    vm.check(VERIFY, 20 * SLOW)
    return int(out.split()[-1])


def load_and_kill(vm, first):
    """The last number that was said."""
    perl(vm, "writer", WRITER)
    vm.send("%s >/tmp/fio.log 2>&1 & perl /tmp/writer %d\n" % (LOAD, first))
    text = vm.expect(r"said \d+\.", 20 * SLOW)[0] + vm.seen
    until = time.monotonic() + random.uniform(0, 0.8 * SLOW)
    while time.monotonic() < until:
        text += vm.read(until - time.monotonic()) or ""
    vm.process.kill()
    text += vm.process.stdout.read().decode(errors="replace")
    return max(map(int, re.findall(r"said (\d+)\.", text)))


@contextlib.contextmanager
def guest(images, series, log):
    """One at a shell, with a root that may be written, for a journal may be left to recover."""
    with VM("%s/bzImage" % images, cmdline=CMDLINE, log=log,
            disks=["%s/debian.qcow2,snapshot=on" % images, series.disk()]) as vm:
        vm.expect(r"# ", 20 * SLOW)
        vm.send("stty -echo; PS1= PS2=\n")
        vm.check("mount -t proc p /proc; mount -t sysfs s /sys; mount -t tmpfs t /tmp; cd /tmp")
        yield vm


@pytest.mark.skipif(MINIVMM == "qemu", reason="this is about minivmm")
def test_kill(images, log, capsys):
    for number in range(KILLS):
        if number % PER_IMAGE == 0:
            series = Series(images, number // PER_IMAGE)
        with guest(images, series, log) as vm:
            first = verify(vm, series) + 1
            series.said += [first, load_and_kill(vm, first)]
        left = series.check()
        with capsys.disabled():
            show("       kill %d%s: up to block %d is synced%s" % (
                number + 1, " over a file below" * series.backed, series.said[-1],
                ", clusters leaked" * (left == 3)))
        if number % 3 == 1:
            series.snapshot()
        if number % PER_IMAGE == PER_IMAGE - 1 or number == KILLS - 1:
            with guest(images, series, log) as vm:
                verify(vm, series)
            series.check()
            os.unlink(series.path)

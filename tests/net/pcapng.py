#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
Reads a pcapng file strictly, and says what is in it, a line for each block:

    section APPLICATION
    interface NAME SNAPLEN
    frame in|out SECONDS LENGTH HEX
    counts RECEIVED DROPPED

Anything not as draft-ietf-opsawg-pcapng has it, or not what minivmm writes, is a failure.
"""

import struct
import sys


def options(data):
    """{code: value}; the end must be there."""
    found = {}
    while True:
        code, length = struct.unpack_from("=HH", data)
        if code == 0:
            assert length == 0 and len(data) == 4, "bytes behind the last option"
            return found
        found[code] = data[4:4 + length]
        assert len(found[code]) == length, "an option is cut off"
        padded = length + -length % 4
        assert not any(data[4 + length:4 + padded]), "padding"
        data = data[4 + padded:]


def section(body):
    magic, major, minor, length = struct.unpack_from("=IHHq", body)
    assert (magic, major, minor, length) == (0x1a2b3c4d, 1, 0, -1), "section header"
    return "section " + options(body[16:])[4].decode()


def interface(body):
    link, reserved, snaplen = struct.unpack_from("=HHI", body)
    found = options(body[8:])
    assert (link, reserved, found[9]) == (1, 0, b"\x09"), "interface"
    return "interface %s %d" % (found[2].decode(), snaplen)


def frame(body):
    number, high, low, length, wire = struct.unpack_from("=IIIII", body)
    assert number == 0 and length == wire, "frame"
    padded = length + -length % 4
    flags, = struct.unpack("=I", options(body[20 + padded:])[2])
    return "frame %s %.9f %d %s" % ({1: "in", 2: "out"}[flags], (high << 32 | low) / 1e9, length,
                                    body[20:20 + length].hex())


def counts(body):
    number, _, _ = struct.unpack_from("=III", body)
    found = options(body[12:])
    assert number == 0, "counts"
    return "counts %d %d" % (struct.unpack("=Q", found[4]) + struct.unpack("=Q", found[5]))


BLOCKS = {0x0a0d0d0a: section, 1: interface, 5: counts, 6: frame}


def main():
    with open(sys.argv[1], "rb") as file:
        data = file.read()
    first = True
    while data:
        kind, length = struct.unpack_from("=II", data)
        assert length % 4 == 0 and 12 <= length <= len(data), "a block's length"
        assert struct.unpack_from("=I", data, length - 4)[0] == length, "a block's second length"
        assert (kind == 0x0a0d0d0a) == first, "one section, at the beginning"
        print(BLOCKS[kind](data[8:length - 4]))
        data, first = data[length:], False


if __name__ == "__main__":
    main()

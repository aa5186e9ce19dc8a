#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The scalars of an events file: "STEP TAG VALUE", one a line. Checks every checksum and
the version in the first record."""
import struct
import sys


def crc32c(data):
    table = []
    for i in range(256):
        for _ in range(8):
            i = (i >> 1) ^ 0x82F63B78 if i & 1 else i >> 1
        table.append(i)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def masked(data):
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def records(data):
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        (check,) = struct.unpack_from("<I", data, at + 8)
        assert check == masked(data[at:at + 8]), "checksum of a length at byte %d" % at
        body = data[at + 12:at + 12 + size]
        (check,) = struct.unpack_from("<I", data, at + 12 + size)
        assert check == masked(body), "checksum of a record at byte %d" % at
        yield body
        at += size + 16


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """(number, value) of a message: integers, bytes, and floats of their sizes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = varint(data, at)
        elif wire == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            form, size = {1: ("<d", 8), 5: ("<f", 4)}[wire]
            (value,), at = struct.unpack_from(form, data, at), at + size
        yield key >> 3, value


assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
with open(sys.argv[1], "rb") as file:
    events = [list(fields(record)) for record in records(file.read())]
assert dict(events[0])[3] == b"brain.Event:2"
for event in events[1:]:
    facts = dict(event)
    for _, value in fields(facts[5]):
        scalar = dict(fields(value))
        print(facts[2], scalar[1].decode(), repr(scalar[2]))

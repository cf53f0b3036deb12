#!/usr/bin/env python3
"""Tests slim_fatbin.py on fat binaries made here by hand: python3 scripts/test_slim_fatbin.py"""

import struct
import unittest

from slim_fatbin import slim


def entry(arch, payload, header_size=64):
    head = struct.pack("<HHIQ", 2, 0x101, header_size, len(payload)).ljust(28, b"\x11") + struct.pack("<I", arch)
    return head.ljust(header_size, b"\x22") + payload


def fatbin(*parts):
    body = b"".join(parts)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


class Slim(unittest.TestCase):
    def test_zeroes_other_payloads_and_nothing_else(self):
        def library(b80, b90, c100):
            chance = struct.pack("<IHHQ", 0xBA55ED50, 7, 9, 3)  # the magic without a container
            return b"ELF.." + fatbin(entry(80, b80), entry(90, b90)) + chance + b"host" + fatbin(entry(100, c100, 72)) + b"end"

        data = bytearray(library(b"A" * 24, b"B" * 40, b"C" * 8))
        self.assertEqual(slim(data, 90), (40, 32))
        self.assertEqual(bytes(data), library(bytes(24), b"B" * 40, bytes(8)))

    def test_an_absent_architecture_is_named_and_nothing_changes(self):
        before = fatbin(entry(80, b"A" * 8), entry(90, b"B" * 8))
        data = bytearray(before)
        with self.assertRaisesRegex(ValueError, "architecture 70; it has 80, 90"):
            slim(data, 70)
        self.assertEqual(bytes(data), before)

    def test_a_library_without_device_code_is_refused(self):
        with self.assertRaisesRegex(ValueError, "none at all"):
            slim(bytearray(b"no code here"), 90)

    def test_an_entry_beyond_its_container_is_refused(self):
        broken = bytearray(fatbin(entry(80, b"A" * 8)))
        struct.pack_into("<Q", broken, 16 + 8, 9)
        with self.assertRaisesRegex(ValueError, "byte 16 does not fit"):
            slim(broken, 80)


if __name__ == "__main__":
    unittest.main()

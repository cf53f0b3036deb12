#!/usr/bin/env python3
"""Zeroes the device code of all GPU architectures but one in a CUDA library, so that it compresses to a fraction.

    scripts/slim_fatbin.py LIBRARY OUT ARCH        (ARCH as in sm_90: 90)

The file keeps its size and every offset; only payloads the GPU will never load become zeros. A fat binary is a
16-byte header (u32 magic, u16 version, u16 header size, u64 size of what follows) and then entries: u16 kind
(1 PTX, 2 machine code), u16 flags, u32 header size, u64 payload size, ..., at byte 28 the u32 architecture.
"""

import struct
import sys

MAGIC = struct.pack("<I", 0xBA55ED50)
VERSION, HEADER_SIZE = 1, 16
ENTRY_SIZE = 32  # up to and with the architecture


def entries(data):
    """Yields (architecture, start, end) of each payload, in file order."""
    at = data.find(MAGIC)
    while at >= 0:
        following = at + len(MAGIC)
        if at + HEADER_SIZE <= len(data):
            version, header_size, size = struct.unpack_from("<HHQ", data, at + 4)
            end = at + HEADER_SIZE + size
            # The four bytes also occur by chance, in code that looks for them.
            if (version, header_size) == (VERSION, HEADER_SIZE) and end <= len(data):
                yield from container(data, at + HEADER_SIZE, end)
                following = end
        at = data.find(MAGIC, following)


def container(data, at, end):
    while at + ENTRY_SIZE <= end:
        _kind, _flags, header_size, size = struct.unpack_from("<HHIQ", data, at)
        start = at + header_size
        if header_size < ENTRY_SIZE or start + size > end:
            raise ValueError(f"the fat binary's entry at byte {at} does not fit its container")
        yield struct.unpack_from("<I", data, at + 28)[0], start, start + size
        at = start + size


def slim(data, arch):
    """Zeroes in place what is not for `arch`; returns (bytes kept, bytes zeroed). Changes nothing when it raises."""
    found = list(entries(data))
    kept = sum(end - start for a, start, end in found if a == arch)
    if not kept:
        have = ", ".join(str(a) for a in sorted({a for a, _, _ in found})) or "none at all"
        raise ValueError(f"no device code for architecture {arch}; it has {have}")
    zeroed = 0
    for a, start, end in found:
        if a != arch:
            data[start:end] = bytes(end - start)
            zeroed += end - start
    return kept, zeroed


def main():
    if len(sys.argv) != 4 or not sys.argv[3].isdigit():
        sys.exit("slim_fatbin: usage: slim_fatbin.py LIBRARY OUT ARCH (a number such as 90)")
    library, out, arch = sys.argv[1], sys.argv[2], int(sys.argv[3])
    try:
        with open(library, "rb") as file:
            data = bytearray(file.read())
        kept, zeroed = slim(data, arch)
        with open(out, "wb") as file:
            file.write(data)
    except (OSError, ValueError) as error:
        sys.exit(f"slim_fatbin: {library}: {error}")
    print(f"slim_fatbin: kept {kept / 1e6:.1f} MB for architecture {arch}, zeroed {zeroed / 1e6:.1f} MB")


if __name__ == "__main__":
    main()

"""How what is told in parts is cut: by address, into a power of two. Pure."""

from __future__ import annotations

from zlib import crc32


def part_of(address: str, count: int) -> int:
    """Returns in which of so many parts an address is: it stays there as others come and go."""
    return crc32(address.encode()) % count if count > 1 else 0


def power_of_two(size: int, each_max: int) -> int:
    """Returns the least one by which so many are divided into no more than `each_max`; 1 for none."""
    return 1 << (-(-size // each_max) - 1).bit_length() if size > each_max else 1

"""Adding of differences to a source file's bytes, many at a time, without compiled code.

A long integer holds the bytes in lanes twice as wide: even and odd ones apart, so that no sum runs
over into the next.
"""

from functools import cache

PIECE = 64 * 1024
_ZEROS = bytes(PIECE)


def add(source: bytes, difference: bytes) -> bytes:
    """The sums of two rows of bytes of one length, at most PIECE, each modulo 256."""
    length = len(source)
    if difference == _ZEROS[:length]:
        return source
    even = _lanes(length)
    first, second = int.from_bytes(source, "little"), int.from_bytes(difference, "little")
    low = ((first & even) + (second & even)) & even
    high = ((first >> 8 & even) + (second >> 8 & even)) & even
    return (low | high << 8).to_bytes(length + 1, "little")[:length]


@cache
def _whole() -> int:
    return int.from_bytes(b"\xff\x00" * (PIECE // 2), "little")


def _lanes(length: int) -> int:
    whole = _whole()
    return whole if length == PIECE else whole & ((1 << length * 8) - 1)

"""Long rows of zeros, as they are between parts of a program, made easy to search for bsdiff.

It compares all of a row at each of its bytes, where rows of nearly one length meet: seconds for a
hundred kilobytes. Noise that begins with the row, the same for all of them, is found at once.
"""

import hashlib
import re
from collections.abc import Iterator

_ZEROS = re.compile(rb"\0*")
_LONG = bytes(2048)
_PIECE = 4096

Rows = list[tuple[int, int]]


def filled(content: bytes) -> tuple[bytes, Rows]:
    """The content with noise in its long rows of zeros, and where these are: (begin, end)."""
    rows = list(_rows(content))
    if not rows:
        return content, rows
    noise = hashlib.shake_128(b"").digest(max(end - begin for begin, end in rows))
    out = bytearray(content)
    for begin, end in rows:
        out[begin:end] = noise[: end - begin]
    return bytes(out), rows


def _rows(content: bytes) -> Iterator[tuple[int, int]]:
    end = 0
    while (begin := content.find(_LONG, end)) >= 0:
        found = _ZEROS.match(content, begin)
        end = found.end() if found else begin + len(_LONG)
        yield begin, end


def subtract(target: bytes, source: bytes) -> bytes:
    """The differences of two rows of bytes of one length."""
    parts = []
    for at in range(0, len(target), _PIECE):
        some, others = target[at : at + _PIECE], source[at : at + _PIECE]
        same = some == others
        parts.append(
            bytes(len(some))
            if same
            else bytes((a - b) & 0xFF for a, b in zip(some, others, strict=True))
        )
    return b"".join(parts)

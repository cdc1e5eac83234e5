"""Ends of LZMA streams that need not be sent, as readers go on with zeros where a stream ends.

The compressor ends a stream with a mark and with what makes its last number whole, some 10 bytes;
how long the content is, the index says already.
"""

from gantry.deltas.format import Codec, DeltaError, Packing
from gantry.deltas.packing import PADDING, Packed

# Larger streams are not decoded again for so few bytes.
LARGEST = 128 * 1024
_MOST = 16


def trimmed(packing: Packing, content: bytes, packed: bytes) -> bytes:
    """The shortest beginning of `packed`, or of what is one higher there, that unpacks the same."""
    if packing.codec is not Codec.LZMA1 or len(packed) > LARGEST:
        return packed
    for length in range(max(0, len(packed) - min(_MOST, len(PADDING))), len(packed)):
        begin = packed[:length]
        for found in (begin, _next(begin)):
            if _unpacks(packing, found, content):
                return found
    return packed


def _next(content: bytes) -> bytes:
    """The number that follows this one, in as many bytes."""
    return ((int.from_bytes(content) + 1) % (1 << 8 * len(content))).to_bytes(len(content))


def _unpacks(packing: Packing, packed: bytes, content: bytes) -> bool:
    stream = Packed(packing, len(content), len(packed), lambda at, n: packed[at : at + n])
    found = b""
    try:
        while piece := stream.piece():
            found += piece
    except DeltaError:
        return False
    return found == content

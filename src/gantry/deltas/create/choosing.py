"""Which packing a column gets: all that may be good are tried on little, and on much a sample."""

import lzma
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from gantry.deltas.format import MEMORY_LIMIT, Codec, Packing
from gantry.deltas.index import SETTINGS, lzma_properties
from gantry.deltas.packing import filters

# Up to so many bytes a column is packed by everything, and the smallest is taken.
_TRIED = 128 * 1024
# Of larger ones so many pieces of so many bytes are: a multiple of all alignments.
_PIECES, _PIECE = 8, 32 * 1024
# Much that gets smaller by less is packed already, or noise: packing it takes long for nothing.
# Less may have twice what is noise.
_DENSE, _MUCH = 0.98, 4 * 1024**2

Read = Callable[[int, int], bytes]


def candidates(total: int, sharing: int, read: Read) -> list[Packing]:
    """Packings that are worth a try for `total` bytes, which `read` gives by offset and length;
    `sharing` columns are unpacked at a time, at most.
    """
    limit = min(23, (MEMORY_LIMIT // max(sharing, 1)).bit_length() - 1)
    dictionary = max(12, min(limit, (total - 1).bit_length()))
    found = [Packing(Codec.LZMA1, lzma_properties(*each), dictionary) for each in SETTINGS]
    if total <= _TRIED:
        return [Packing(Codec.RAW), *found]
    pieces = list(sample(total, read))
    plain = [Packing(Codec.RAW)] if is_dense(pieces) else []
    if plain and total > _MUCH:
        return plain
    return [*plain, min(found, key=lambda each: sum(_length(each, piece) for piece in pieces))]


def within(found: Sequence[list[Packing]], room: int) -> list[list[Packing]]:
    """The packings of columns, with the largest dictionaries halved until a reader can unpack all
    columns at a time in `room` bytes, whichever of its packings each gets."""
    fitting = [*found]
    needs = [max(each.memory for each in column) for column in found]
    while sum(needs) > room:
        most = needs.index(max(needs))
        fitting[most] = [
            replace(each, dictionary=each.dictionary - 1) if each.dictionary else each
            for each in fitting[most]
        ]
        needs[most] = max(each.memory for each in fitting[most])
    return fitting


def sample(total: int, read: Read) -> Iterator[bytes]:
    """Pieces from all over so many bytes."""
    for number in range(_PIECES):
        offset = (total - _PIECE) * number // (_PIECES - 1)
        yield read(offset - offset % 16, _PIECE)


def is_dense(pieces: list[bytes]) -> bool:
    """Whether what is in these cannot be made smaller, as far as some of them tell."""
    packed = sum(len(zlib.compress(piece, 1)) for piece in pieces)
    return packed > _DENSE * sum(map(len, pieces))


def _length(packing: Packing, piece: bytes) -> int:
    """What it packs to, about, in a fraction of the time."""
    chain = filters(packing)
    chain[-1].update(mode=lzma.MODE_NORMAL, nice_len=32, mf=lzma.MF_HC4, depth=8)
    return len(lzma.compress(piece, lzma.FORMAT_RAW, filters=chain))

"""Deltas that no one made in good faith: any columns, with a header and an index that are sound."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gantry.deltas.format import (
    Codec,
    Column,
    Group,
    Index,
    Layer,
    Order,
    Packing,
    encode_index,
    varint,
)
from gantry.deltas.headers import parse

DIFF_ID = "sha256:" + 64 * "d"
SOURCE = "sha256:" + 64 * "5"
CONFIG = "sha256:" + 64 * "c"
RAW = Packing(Codec.RAW)


@dataclass(frozen=True, slots=True)
class Packed:
    """A column: the length that is claimed for it, and its bytes as they are packed."""

    length: int
    content: bytes
    packing: Packing = RAW


def plain(content: bytes) -> Packed:
    """A column without lies."""
    return Packed(len(content), content)


def numbers(*values: int) -> Packed:
    """A column of numbers."""
    return plain(b"".join(map(varint, values)))


def shape_of(block: bytes) -> bytes:
    """How a tar's header is written, as the column SHAPES has it."""
    header = parse(block)
    assert header is not None
    return header.shape.pack()


def delta(
    path: Path,
    columns: Mapping[Column, Packed],
    size: int = 2**20,
    base: int | None = None,
    sources: Sequence[str] = (SOURCE,),
) -> Path:
    """Write a delta with one layer of these columns; its check is right."""
    groups = tuple(
        Group(packed.packing, ((column, packed.length),), len(packed.content))
        for column, packed in columns.items()
    )
    checks = b"".join(zlib.crc32(packed.content).to_bytes(4) for packed in columns.values())
    layer = Layer(DIFF_ID, size, base, Order.FOLDERS, zlib.crc32(checks), groups)
    content = encode_index(Index(CONFIG, tuple(sources), (layer,)))
    path.write_bytes(content + b"".join(packed.content for packed in columns.values()))
    return path

"""Deltas that no one made in good faith: any columns, with a header and an index that are sound."""

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gantry.deltas.format import (
    VERSION,
    Codec,
    Column,
    Group,
    Index,
    Layer,
    Order,
    Packing,
    Row,
    varint,
)
from gantry.deltas.headers import parse
from gantry.deltas.index import HAS_NAMES, HAS_PAYLOAD, MAGIC, encode
from gantry.deltas.names import Names

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
    check = zlib.crc32(checks) if groups else 0
    layer = Layer(size, base, Order.FOLDERS, groups, check)
    payload = b"".join(packed.content for packed in columns.values())
    return written(path, (layer,), sources, payload)


def row(
    path: Path,
    content: Packed,
    size: int = 2**20,
    base: int | None = None,
    sources: Sequence[str] = (SOURCE,),
) -> Path:
    """Write a delta with one layer that is told by a row."""
    told = Row(content.packing, content.length, content.content)
    return written(path, (Layer(size, base, Order.FOLDERS, row=told),), sources)


def written(
    path: Path, layers: Sequence[Layer], sources: Sequence[str] = (), payload: bytes = b""
) -> Path:
    """Write a delta of these layers, whose first is named DIFF_ID."""
    named = [DIFF_ID, *(f"sha256:{number:064}" for number in range(1, len(layers)))]
    names = Names(CONFIG, tuple(sources), tuple(named[: len(layers)]))
    path.write_bytes(encode(Index(tuple(layers)), names, bare=False) + payload)
    return path


def signed(names: bytes, index: bytes, payload: bytes | None = None, flags: int = 0) -> bytes:
    """Any names and any index with a header that fits them; `flags` beside those that it needs."""
    flags |= VERSION | HAS_NAMES | (0 if payload is None else HAS_PAYLOAD)
    check = hashlib.sha256(bytes([flags]) + names + index).digest()[:4]
    length = b"" if payload is None else varint(len(index))
    return MAGIC + bytes([flags]) + check + names + length + index + (payload or b"")

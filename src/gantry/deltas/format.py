"""The container of a delta: what header and index hold, and the limits of it.

docs/delta-format.md has it byte by byte. Nothing of a delta is believed: every length has a limit
before it is read, and what decoding may take is known, and bounded, from the index.
"""

from dataclasses import dataclass
from enum import IntEnum

SUFFIX = ".gantry-delta"
MEDIA_TYPE = "application/vnd.gantry.delta"
VERSION = 2

INDEX_LIMIT = 1024**2
SOURCES_LIMIT = 4096
LAYERS_LIMIT = 1024
GROUPS_LIMIT = 64
SIZE_LIMIT = 2**40
# Of the columns that are unpacked together, as a whole, and of a row.
TOGETHER_LIMIT = 1024**2
# What the decoders of one layer may take together.
MEMORY_LIMIT = 14 * 1024**2
# What a device walks through, and keeps of it: a path's bytes and its depth.
PATH_LIMIT = 4096
DEPTH_LIMIT = 256
# What a walk holds at a time: the names in the folder that it is in and in all above it, those of
# folders twice, and the bytes of these names.
NAMES_LIMIT = 20_000
NAMES_SIZE_LIMIT = 1024**2

BLOCK = 512


class DeltaError(ValueError):
    """A delta cannot be read or applied; the message says what is wrong with it."""


class BareError(DeltaError):
    """A delta holds no names, and none are given."""


class Codec(IntEnum):
    """How bytes are packed."""

    RAW = 0
    BZIP2 = 1
    LZMA1 = 2
    LZMA2 = 3


class Column(IntEnum):
    """The kinds of values that a layer is told by; each is a stream of its own, or all are one."""

    KINDS = 0
    LENGTHS = 1
    NAMES = 2
    FORMS = 3
    SHAPES = 4
    META = 5
    TIMES = 6
    SIZES = 7
    LINKS = 8
    REFERENCES = 9
    MIDDLES = 10
    ADDS = 11
    INSERTS = 12
    SEEKS = 13
    DIFF = 14
    NEW = 15
    EXTENDED = 16
    GAPS = 17


class Order(IntEnum):
    """The order of a walk through a folder: what is in a folder comes …"""

    FOLDERS = 0  # right behind it
    PATHS = 1  # where its path sorts: a folder's neighbours `a-b` and `a.b` come before `a/b`


@dataclass(frozen=True, slots=True)
class Packing:
    """A codec with its settings. `properties` and `dictionary` (a power of two) are LZMA's.

    `distance` is that of a delta filter before LZMA, 0 for none.
    """

    codec: Codec
    properties: int = 0
    dictionary: int = 0
    distance: int = 0

    @property
    def memory(self) -> int:
        """Bytes that decoding takes, about."""
        if self.codec in (Codec.LZMA1, Codec.LZMA2):
            return (1 << self.dictionary) + 64 * 1024
        return 4 * 1024**2 if self.codec is Codec.BZIP2 else 0


@dataclass(frozen=True, slots=True)
class Group:
    """Columns that are packed together: (column, its bytes unpacked), and the bytes packed."""

    packing: Packing
    columns: tuple[tuple[Column, int], ...]
    encoded: int

    @property
    def raw(self) -> int:
        return sum(length for _, length in self.columns)


@dataclass(frozen=True, slots=True)
class Row:
    """A small layer's values, of all columns, in the order in which they are used: packed, and
    how many bytes they are unpacked. It is a part of the index."""

    packing: Packing
    raw: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer that a delta rebuilds.

    `base` is the number of the source whose files it walks through in `order`, None for none. It
    is told by a row, or by groups; `check` is then the CRC-32 of their CRC-32s, in their order.
    """

    size: int
    base: int | None
    order: "Order"
    groups: tuple[Group, ...] = ()
    check: int = 0
    row: Row | None = None

    @property
    def payload(self) -> int:
        """Bytes behind the index."""
        return sum(group.encoded for group in self.groups)

    @property
    def encoded(self) -> int:
        """All bytes that tell it."""
        return self.payload + (len(self.row.content) if self.row else 0)


@dataclass(frozen=True, slots=True)
class Index:
    """What a delta holds: layers, in the order of their names."""

    layers: tuple[Layer, ...]

    @property
    def payload(self) -> int:
        return sum(layer.payload for layer in self.layers)


def varint(value: int) -> bytes:
    """A number, seven bits a byte, the lowest first."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value: int) -> int:
    """A signed number as an unsigned one that is as near to zero."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def unzigzag(value: int) -> int:
    return -(value + 1 >> 1) if value & 1 else value >> 1

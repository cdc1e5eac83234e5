"""The container of a delta: header, index, and the columns' compressed groups.

docs/delta-format.md has it byte by byte. Nothing of a delta is believed: every length has a limit
before it is read, and what decoding may take is known, and bounded, from the index.
"""

import hashlib
import struct
from dataclasses import dataclass
from enum import IntEnum

SUFFIX = ".gantry-delta"
MEDIA_TYPE = "application/vnd.gantry.delta"
VERSION = 1
# As PNG has it: a transfer that changes line ends or the eighth bit is found out at once.
MAGIC = b"\x89GDELTA\n"
# Magic, version, length of the index, the first bytes of the index's SHA-256. Big-endian.
_HEADER = struct.Struct(">8sII8s")
HEADER_LENGTH = _HEADER.size

INDEX_LIMIT = 1024**2
SOURCES_LIMIT = 4096
LAYERS_LIMIT = 1024
GROUPS_LIMIT = 64
SIZE_LIMIT = 2**40
# Of the columns that are unpacked together, as a whole.
TOGETHER_LIMIT = 1024**2
# What the decoders of one layer may take together.
MEMORY_LIMIT = 14 * 1024**2
# What a device walks through, and keeps of it: a path's bytes and its depth.
PATH_LIMIT = 4096
DEPTH_LIMIT = 256

BLOCK = 512


class DeltaError(ValueError):
    """A delta cannot be read or applied; the message says what is wrong with it."""


class Codec(IntEnum):
    """How a group's bytes are packed."""

    RAW = 0
    LZMA1 = 1
    LZMA2 = 2
    BZIP2 = 3


class Column(IntEnum):
    """The kinds of values that a layer is told by; each is a stream of its own."""

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
class Layer:
    """A layer that a delta rebuilds.

    `base` is the number of the source whose files it walks through in `order`, None for none.
    `check` is the CRC-32 of its groups' CRC-32s, in their order.
    """

    diff_id: str
    size: int
    base: int | None
    order: "Order"
    check: int
    groups: tuple[Group, ...]

    @property
    def encoded(self) -> int:
        return sum(group.encoded for group in self.groups)


@dataclass(frozen=True, slots=True)
class Index:
    """What a delta holds: the target's configuration, source layers, and layers by groups."""

    config: str
    sources: tuple[str, ...]
    layers: tuple[Layer, ...]

    @property
    def payload(self) -> int:
        return sum(layer.encoded for layer in self.layers)


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


def encode_index(index: Index) -> bytes:
    """Header and index of a delta."""
    out = bytearray(_raw_digest(index.config))
    out += varint(len(index.sources))
    for source in index.sources:
        out += _raw_digest(source)
    out += varint(len(index.layers))
    for layer in index.layers:
        out += _raw_digest(layer.diff_id) + varint(layer.size)
        out += varint(0 if layer.base is None else 1 + layer.base * 2 + layer.order)
        out += struct.pack(">I", layer.check) + varint(len(layer.groups))
        for group in layer.groups:
            out += _encode_group(group)
    content = bytes(out)
    if len(content) > INDEX_LIMIT:
        raise DeltaError(f"the delta's index would have {len(content)} bytes")
    return _HEADER.pack(MAGIC, VERSION, len(content), _check(content)) + content


def _encode_group(group: Group) -> bytes:
    packing = group.packing
    out = bytearray([packing.codec])
    if packing.codec in (Codec.LZMA1, Codec.LZMA2):
        out += bytes([packing.properties, packing.dictionary, packing.distance])
    out += varint(len(group.columns))
    for column, length in group.columns:
        out += varint(column) + varint(length)
    return bytes(out + varint(group.encoded))


def read_header(content: bytes) -> tuple[int, bytes]:
    """The index's length and check, from a file's first bytes.

    Raises:
        DeltaError: these do not begin a delta of a version that is known here.
    """
    if len(content) < HEADER_LENGTH or not content.startswith(MAGIC):
        raise DeltaError(
            "this is no delta, or one that a text transfer has changed: copy it as a binary file"
        )
    _, version, length, check = _HEADER.unpack(content[:HEADER_LENGTH])
    if version != VERSION:
        raise DeltaError(f"the delta has format {version}, and here {VERSION} is known")
    if not 0 < length <= INDEX_LIMIT:
        raise DeltaError(f"the delta's index has {length} bytes, where 1 to {INDEX_LIMIT} may be")
    return length, check


def read_index(content: bytes, check: bytes) -> Index:
    """The index of a delta.

    Raises:
        DeltaError: it is damaged, or says what no delta may say.
    """
    if _check(content) != check:
        raise DeltaError("the delta's index is damaged: download it again")
    fields = _Fields(content)
    config = fields.digest()
    sources = tuple(fields.digest() for _ in range(fields.count(SOURCES_LIMIT, "sources")))
    layers = tuple(
        _layer(fields, len(sources)) for _ in range(fields.count(LAYERS_LIMIT, "layers"))
    )
    if fields.left:
        raise DeltaError(f"the delta's index has {fields.left} bytes behind its end")
    if len({layer.diff_id for layer in layers}) != len(layers) or len(set(sources)) != len(sources):
        raise DeltaError("the delta's index has the same layer twice")
    return Index(config, sources, layers)


def _layer(fields: "_Fields", sources: int) -> Layer:
    diff_id = fields.digest()
    size = fields.number(SIZE_LIMIT, "a layer's size")
    base = fields.number(sources * 2, "a layer's base")
    check = int.from_bytes(fields.take(4))
    groups = tuple(_group(fields) for _ in range(fields.count(GROUPS_LIMIT, "groups")))
    columns = [column for group in groups for column, _ in group.columns]
    if len(set(columns)) != len(columns):
        raise DeltaError("the delta's index has the same column twice in a layer")
    memory = sum(group.packing.memory for group in groups)
    if memory > MEMORY_LIMIT:
        raise DeltaError(f"a layer of the delta needs {memory} bytes to unpack: too many")
    source, order = divmod(max(base - 1, 0), 2)
    return Layer(diff_id, size, source if base else None, Order(order), check, groups)


def _group(fields: "_Fields") -> Group:
    packing = _packing(fields)
    columns = []
    for _ in range(fields.count(len(Column), "columns")):
        number = fields.number(max(Column), "a column")
        if number not in Column.__members__.values():
            raise DeltaError(f"the delta's index names a column {number}, which is not known")
        columns.append((Column(number), fields.number(SIZE_LIMIT, "a column's length")))
    group = Group(packing, tuple(columns), fields.number(SIZE_LIMIT, "a group's length"))
    if not columns or (len(columns) > 1 and group.raw > TOGETHER_LIMIT):
        raise DeltaError(f"the delta's index has {group.raw} bytes of columns packed together")
    if packing.codec is Codec.RAW and group.raw != group.encoded:
        raise DeltaError("the delta's index has a group whose lengths differ, though not packed")
    return group


def _packing(fields: "_Fields") -> Packing:
    number = fields.number(255, "a codec")
    if number not in Codec.__members__.values():
        raise DeltaError(f"the delta uses a codec {number}, which is not known")
    codec = Codec(number)
    if codec not in (Codec.LZMA1, Codec.LZMA2):
        return Packing(codec)
    properties, dictionary, distance = fields.take(3)
    literal = properties % 9 + properties // 9 % 5
    if properties >= 225 or literal > 4 or not 12 <= dictionary <= 23:
        raise DeltaError(f"the delta has LZMA settings {properties}, {dictionary}: not allowed")
    return Packing(codec, properties, dictionary, distance)


class _Fields:
    """The fields of an index, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._content) - self._position

    def take(self, length: int) -> bytes:
        if self.left < length:
            raise DeltaError("the delta's index ends too early")
        self._position += length
        return self._content[self._position - length : self._position]

    def number(self, limit: int, what: str) -> int:
        value = shift = 0
        while True:
            (byte,) = self.take(1)
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 63:
                raise DeltaError(f"the delta's index has no sound number for {what}")
        if value > limit:
            raise DeltaError(f"the delta's index has {value} for {what}: at most {limit} may be")
        return value

    def count(self, limit: int, what: str) -> int:
        return self.number(limit, f"the number of {what}")

    def digest(self) -> str:
        return f"sha256:{self.take(32).hex()}"


def _raw_digest(digest: str) -> bytes:
    kind, _, value = digest.partition(":")
    try:
        raw = bytes.fromhex(value)
    except ValueError:
        raw = b""
    if kind != "sha256" or len(raw) != 32:
        raise DeltaError(f"{digest!r} is no digest of the form sha256:…")
    return raw


def _check(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:8]

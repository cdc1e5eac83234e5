"""Header, names and index of a delta, as bytes and back: docs/delta-format.md, Beginning."""

import hashlib
from typing import BinaryIO

from gantry.deltas.format import (
    BLOCK,
    GROUPS_LIMIT,
    INDEX_LIMIT,
    LAYERS_LIMIT,
    MEMORY_LIMIT,
    SIZE_LIMIT,
    SOURCES_LIMIT,
    TOGETHER_LIMIT,
    VERSION,
    BareError,
    Codec,
    Column,
    DeltaError,
    Group,
    Index,
    Layer,
    Order,
    Packing,
    Row,
    varint,
)
from gantry.deltas.names import Names, raw_digest

MAGIC = b"\x89G"
# The third byte: the format's version, and what is in the file beside the index.
_VERSION_BITS = 0x1F
HAS_NAMES = 0x20
HAS_PAYLOAD = 0x40
_FLAGS = HAS_NAMES | HAS_PAYLOAD
_CHECK_LENGTH = 4
HEADER_LENGTH = len(MAGIC) + 1 + _CHECK_LENGTH
# Format 1 began so.
_FIRST = b"\x89GDELTA\n"
# lc, lp and pb of LZMA that are named by a byte, together with the dictionary.
SETTINGS = ((3, 0, 0), (0, 0, 0), (3, 0, 2), (4, 0, 0), (0, 2, 2))
_LEAST, _MOST = 12, 23
_USUAL = len(Codec)
_DICTIONARIES = _MOST - _LEAST + 1
_ROW = 0x80


def lzma_properties(lc: int, lp: int, pb: int) -> int:
    """The three in one byte, as LZMA's own headers have them."""
    return lc + 9 * (lp + 5 * pb)


_BY_NUMBER = [
    Packing(Codec.LZMA1, lzma_properties(*each), dictionary)
    for each in SETTINGS
    for dictionary in range(_LEAST, _MOST + 1)
]
_NUMBERS = {packing: _USUAL + number for number, packing in enumerate(_BY_NUMBER)}


def encode(index: Index, names: Names, bare: bool) -> bytes:
    """All of a delta that is before its groups. A bare one goes without its names.

    Raises:
        DeltaError: a name is no digest, or there is too much of anything.
    """
    content = bytearray()
    for number, layer in enumerate(index.layers):
        content += encode_layer(layer, number == len(index.layers) - 1)
    if len(content) > INDEX_LIMIT:
        raise DeltaError(f"the delta's index would have {len(content)} bytes")
    flags = VERSION | (0 if bare else HAS_NAMES)
    length = b""
    if index.payload:
        flags |= HAS_PAYLOAD
        length = varint(len(content))
    named = encode_names(names)
    check = _check(flags, named, bytes(content))
    return MAGIC + bytes([flags]) + check + (b"" if bare else named) + length + bytes(content)


def encode_names(names: Names) -> bytes:
    """Names as a file has them, and as the check takes them."""
    out = bytearray(raw_digest(names.config))
    for digests in (names.sources, names.layers):
        out += varint(len(digests)) + b"".join(map(raw_digest, digests))
    return bytes(out)


def encode_layer(layer: Layer, is_last: bool) -> bytes:
    """What the index has of a layer; the last one's row has no length."""
    blocks, rest = divmod(layer.size, BLOCK)
    out = bytearray(varint(layer.size << 1 | 1 if rest else blocks << 1))
    out += varint(0 if layer.base is None else 1 + layer.base * 2 + layer.order)
    row = layer.row
    if row is None:
        out.append(len(layer.groups))
        out += layer.check.to_bytes(4) if layer.groups else b""
        return bytes(out + b"".join(map(_encode_group, layer.groups)))
    number, settings = _encode_packing(row.packing)
    out.append(_ROW | number)
    out += settings
    out += b"" if row.packing.codec is Codec.RAW else varint(row.raw)
    out += b"" if is_last else varint(len(row.content))
    return bytes(out + row.content)


def _encode_group(group: Group) -> bytes:
    number, settings = _encode_packing(group.packing)
    out = bytearray([number]) + settings
    columns = sorted(group.columns)
    if len(columns) == 1:
        out += varint(columns[0][0] << 1)
    else:
        out += varint(sum(1 << column for column, _ in columns) << 1 | 1)
    for _, length in columns:
        out += varint(length)
    return bytes(out if group.packing.codec is Codec.RAW else out + varint(group.encoded))


def _encode_packing(packing: Packing) -> tuple[int, bytes]:
    if packing in _NUMBERS:
        return _NUMBERS[packing], b""
    if packing.codec in (Codec.LZMA1, Codec.LZMA2):
        settings = bytes([packing.properties, packing.dictionary, packing.distance])
        return packing.codec, settings
    return packing.codec, b""


def read(stream: BinaryIO, size: int, names: Names | None) -> tuple[Names, Index]:
    """Names and index of a delta in a file of `size` bytes, which stands at its beginning.

    `names` are those that it must be for. A bare delta cannot be read without.

    Raises:
        OSError: it cannot be read.
        DeltaError: it is no delta, of another version, damaged, for others, or not whole.
    """
    flags, check = _read_header(stream.read(HEADER_LENGTH))
    # What follows is read once its length is known to be bearable.
    start = _Fields(stream.read(_names_limit(size, flags)))
    found = _read_names(start) if flags & HAS_NAMES else names
    if found is None:
        raise BareError("the delta is a bare one, which holds no names: say what it is for")
    if names is not None and found != names:
        raise DeltaError("the delta is for other images than these")
    if flags & HAS_PAYLOAD:
        length = start.number(INDEX_LIMIT, "its length")
    else:
        length = size - HEADER_LENGTH - start.position
        if length > INDEX_LIMIT:
            raise DeltaError(f"the delta's index has {length} bytes: at most {INDEX_LIMIT} may be")
    stream.seek(HEADER_LENGTH + start.position)
    content = stream.read(length)
    if _check(flags, encode_names(found), content) != check:
        if flags & HAS_NAMES:
            raise DeltaError("the delta's index is damaged: download it again")
        raise DeltaError("the delta is for other images than these, or damaged")
    index = _read_index(content, found)
    expected = HEADER_LENGTH + start.position + length + index.payload
    if size != expected:
        raise DeltaError(f"the delta has {size} bytes, and should have {expected}")
    return found, index


def _names_limit(size: int, flags: int) -> int:
    most = 32 * (1 + SOURCES_LIMIT + LAYERS_LIMIT) + 6 if flags & HAS_NAMES else 0
    return min(size, most + 10)


def _read_header(content: bytes) -> tuple[int, bytes]:
    if content.startswith(_FIRST[: len(content)]) and len(content) > len(MAGIC):
        raise DeltaError(f"the delta has format 1, and here {VERSION} is known")
    if len(content) < HEADER_LENGTH or not content.startswith(MAGIC):
        raise DeltaError(
            "this is no delta, or one that a text transfer has changed: copy it as a binary file"
        )
    flags = content[len(MAGIC)]
    if flags & _VERSION_BITS != VERSION or flags & ~(_VERSION_BITS | _FLAGS):
        shown = flags & _VERSION_BITS
        raise DeltaError(f"the delta has format {shown} ({flags:#x}), and here {VERSION} is known")
    return flags, content[len(MAGIC) + 1 :]


def _check(flags: int, names: bytes, content: bytes) -> bytes:
    return hashlib.sha256(bytes([flags]) + names + content).digest()[:_CHECK_LENGTH]


def _read_names(fields: "_Fields") -> Names:
    config = fields.digest()
    sources = tuple(fields.digest() for _ in range(fields.count(SOURCES_LIMIT, "sources")))
    layers = tuple(fields.digest() for _ in range(fields.count(LAYERS_LIMIT, "layers")))
    return Names(config, sources, layers)


def _read_index(content: bytes, names: Names) -> Index:
    for digests in (names.sources, names.layers):
        if len(set(digests)) != len(digests):
            raise DeltaError("the delta names the same layer twice")
    fields = _Fields(content)
    count = len(names.layers)
    layers = tuple(
        _layer(fields, len(names.sources), number == count - 1) for number in range(count)
    )
    if fields.left:
        raise DeltaError(f"the delta's index has {fields.left} bytes behind its end")
    return Index(layers)


def _layer(fields: "_Fields", sources: int, is_last: bool) -> Layer:
    code = fields.number(SIZE_LIMIT * 2 + 1, "a layer's size")
    size = code >> 1 if code & 1 else (code >> 1) * BLOCK
    if size > SIZE_LIMIT:
        raise DeltaError(f"the delta's index has {size} for a layer's size: too many")
    base = fields.number(sources * 2, "a layer's base")
    source, order = divmod(max(base - 1, 0), 2)
    walk = (size, source if base else None, Order(order))
    (how,) = fields.take(1)
    if how & _ROW:
        return Layer(*walk, row=_row(fields, how & ~_ROW, is_last))
    if how > GROUPS_LIMIT:
        raise DeltaError(f"the delta's index has {how} for the number of groups: too many")
    check = int.from_bytes(fields.take(4)) if how else 0
    groups = tuple(_group(fields) for _ in range(how))
    columns = [column for group in groups for column, _ in group.columns]
    if len(set(columns)) != len(columns):
        raise DeltaError("the delta's index has the same column twice in a layer")
    memory = sum(group.packing.memory for group in groups)
    if memory > MEMORY_LIMIT:
        raise DeltaError(f"a layer of the delta needs {memory} bytes to unpack: too many")
    return Layer(*walk, groups, check)


def _row(fields: "_Fields", number: int, is_last: bool) -> Row:
    packing = _packing(fields, number)
    is_raw = packing.codec is Codec.RAW
    raw = 0 if is_raw else fields.number(TOGETHER_LIMIT, "a layer's row")
    length = fields.left if is_last else fields.number(INDEX_LIMIT, "the length of a layer's row")
    return Row(packing, length if is_raw else raw, fields.take(length))


def _group(fields: "_Fields") -> Group:
    (number,) = fields.take(1)
    packing = _packing(fields, number)
    code = fields.number(1 << 64, "columns")
    chosen = [code >> 1] if not code & 1 else [n for n in range(64) if code >> 1 >> n & 1]
    if unknown := [each for each in chosen if each not in Column.__members__.values()]:
        raise DeltaError(f"the delta's index names a column {unknown[0]}, which is not known")
    columns = tuple(
        (Column(each), fields.number(SIZE_LIMIT, "a column's length")) for each in chosen
    )
    raw = sum(length for _, length in columns)
    if not columns or (len(columns) > 1 and raw > TOGETHER_LIMIT):
        raise DeltaError(f"the delta's index has {raw} bytes of columns packed together")
    is_raw = packing.codec is Codec.RAW
    return Group(packing, columns, raw if is_raw else fields.number(SIZE_LIMIT, "a group's length"))


def _packing(fields: "_Fields", number: int) -> Packing:
    if _USUAL <= number < _USUAL + len(_BY_NUMBER):
        return _BY_NUMBER[number - _USUAL]
    if number >= _USUAL:
        raise DeltaError(f"the delta uses a codec {number}, which is not known")
    codec = Codec(number)
    if codec not in (Codec.LZMA1, Codec.LZMA2):
        return Packing(codec)
    properties, dictionary, distance = fields.take(3)
    literal = properties % 9 + properties // 9 % 5
    if properties >= 225 or literal > 4 or not _LEAST <= dictionary <= _MOST:
        raise DeltaError(f"the delta has LZMA settings {properties}, {dictionary}: not allowed")
    return Packing(codec, properties, dictionary, distance)


class _Fields:
    """The fields of an index, one after the other."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.position = 0

    @property
    def left(self) -> int:
        return len(self._content) - self.position

    def take(self, length: int) -> bytes:
        if self.left < length:
            raise DeltaError("the delta's index ends too early")
        self.position += length
        return self._content[self.position - length : self.position]

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

"""Headers of tar archives, taken apart so that they can be told in few bytes.

A header is its fields (name, type, mode, …) and its shape: all that programs write in their own
way (how numbers end, `./` before names, magic, owners' names, device numbers). A header that these
do not give back byte by byte is no header for us, and is taken as plain bytes.
Layouts: POSIX.1-1988 ustar, POSIX.1-2001 pax and GNU tar, as in tar(5).
"""

from dataclasses import dataclass

from gantry.deltas.format import BLOCK, DeltaError

_NUMBERS = ((100, 8), (108, 8), (116, 8), (124, 12), (136, 12))  # mode, uid, gid, size, mtime
_CHECKSUM = slice(148, 156)
_TYPE = 156
_LINK = slice(157, 257)
_TAIL = 257
_PREFIX = slice(345, 500)
_USTAR = b"ustar\x00"
TAIL_LENGTH = BLOCK - _TAIL
SHAPE_LENGTH = 6 + TAIL_LENGTH
FOLDER = ord("5")

# How a number fills its field of `width` bytes.
_ENDS = ((1, b"\0"), (2, b" \0"), (1, b" "), (2, b"\0 "), (0, b""))
_BINARY = len(_ENDS)
_EMPTY = _BINARY + 1
_CHECKSUM_END = 3
# How a name is written: as it is, or a path with nothing or `./` before it; folders end in `/`.
_VERBATIM, _PLAIN, _DOTTED = range(3)
# Beside that: modes have the file type's bits, as in stat(2). Docker writes them.
_TYPE_BITS = 4
_TYPES = {ord("0"): 0o100000, ord("1"): 0o100000, ord("2"): 0o120000, ord("3"): 0o020000,
          ord("4"): 0o060000, FOLDER: 0o040000, ord("6"): 0o010000}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """How a program writes headers: the ends of five numbers and the checksum, names, the tail."""

    ends: bytes
    checksum: int
    names: int
    tail: bytes

    def pack(self) -> bytes:
        return self.ends + bytes([self.checksum << 4 | self.names]) + self.tail

    @property
    def verbatim(self) -> bool:
        """Whether names are taken as they are, and are no paths."""
        return self.names & 3 == _VERBATIM


@dataclass(frozen=True, slots=True)
class Header:
    """A header. `path` has neither `./` before it nor `/` behind, unless it is verbatim."""

    path: bytes
    type: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    link: bytes
    shape: Shape


def parse(block: bytes) -> Header | None:
    """The fields of a header; None where `build` would not give the same bytes."""
    numbers = [_number(block[start : start + width]) for start, width in _NUMBERS]
    if any(number is None for number in numbers):
        return None
    values = [number[0] for number in numbers if number]
    ends = bytes(number[1] for number in numbers if number)
    checksum = _number(block[_CHECKSUM])
    if checksum is None or checksum[1] == _EMPTY:  # also the zeros at an archive's end
        return None
    prefixed = block[_TAIL : _TAIL + 6] == _USTAR
    tail = bytearray(block[_TAIL:])
    name = _text(block[:100])
    if prefixed:
        prefix = _text(block[_PREFIX])
        name = prefix + b"/" + name if prefix else name
        tail[_PREFIX.start - _TAIL : _PREFIX.stop - _TAIL] = bytes(155)
    kind = block[_TYPE]
    names, path = _path(name, kind)
    mode, uid, gid, size, mtime = values
    if mode > 0o7777 and mode & ~0o7777 == _TYPES.get(kind):
        mode, names = mode & 0o7777, names | _TYPE_BITS
    shape = Shape(ends, checksum[1], names, bytes(tail))
    header = Header(path, kind, mode, uid, gid, size, mtime, _text(block[_LINK]), shape)
    try:
        same = build(header) == block
    except DeltaError:
        return None
    return header if same else None


def build(header: Header) -> bytes:
    """A header's 512 bytes.

    Raises:
        DeltaError: a field does not fit.
    """
    shape = header.shape
    block = bytearray(BLOCK)
    block[_TAIL:] = shape.tail
    name = _name(header.path, shape.names, header.type)
    if len(name) > 100 and shape.tail.startswith(_USTAR):
        cut = name.rfind(b"/", 0, min(len(name) - 1, 156))
        prefix, name = name[: max(cut, 0)], name[cut + 1 :]
        block[_PREFIX.start : _PREFIX.start + len(prefix)] = prefix
    if len(name) > 100 or len(header.link) > 100 or len(block) != BLOCK:
        raise DeltaError("the delta has a name that does not fit into a tar header")
    block[: len(name)] = name
    mode = header.mode | (_TYPES.get(header.type, 0) if shape.names & _TYPE_BITS else 0)
    values = (mode, header.uid, header.gid, header.size, header.mtime)
    for (start, width), end, value in zip(_NUMBERS, shape.ends, values, strict=True):
        block[start : start + width] = _field(value, width, end)
    block[_TYPE] = header.type
    block[_LINK.start : _LINK.start + len(header.link)] = header.link
    block[_CHECKSUM] = b" " * 8
    block[_CHECKSUM] = _field(sum(block), 8, shape.checksum)
    return bytes(block)


def read_shape(content: bytes) -> Shape:
    """A shape from its packed bytes. Raises DeltaError."""
    ends, written, tail = content[:5], content[5], content[6:]
    checksum, names = written >> 4, written & 15
    if (
        max(*ends, checksum) > _EMPTY
        or names & 3 > _DOTTED
        or names > 7
        or len(tail) != TAIL_LENGTH
    ):
        raise DeltaError("the delta has a shape of headers that is not known")
    return Shape(ends, checksum, names, tail)


def _usual() -> tuple[Shape, ...]:
    """Shapes that need not be told: what images' layers are written by has one of them."""
    device = b"0000000\0"
    plain = _USTAR + b"00"
    root = plain + b"root".ljust(32, b"\0") * 2 + device * 2
    go = plain + bytes(64) + device * 2
    ways = (
        (_PLAIN, go),  # BuildKit, containerd
        (_PLAIN | _TYPE_BITS, root),  # Docker's engine
        (_PLAIN, root),
        (_PLAIN | _TYPE_BITS, go),
        (_PLAIN, plain),  # Python, and Go's pax headers
        (_DOTTED, go),  # `tar -c .`, read and written again by Go
        (_DOTTED, plain),
        (_DOTTED, b"ustar  \0"),  # GNU tar, --numeric-owner
    )
    return tuple(
        Shape(bytes(5), _CHECKSUM_END, names, tail.ljust(TAIL_LENGTH, b"\0"))
        for names, tail in ways
    )


USUAL_SHAPES = _usual()


def _number(content: bytes) -> tuple[int, int] | None:
    if content[0] & 0x80:
        return int.from_bytes(content[1:]), _BINARY
    if not any(content):
        return 0, _EMPTY
    digits = content.rstrip(b"\0 ")
    if not digits or digits.strip(b"01234567"):
        return None
    end = content[len(digits) :]
    for number, (width, written) in enumerate(_ENDS):
        if end == written and width == len(written):
            return int(digits, 8), number
    return None


def _field(value: int, width: int, end: int) -> bytes:
    if end == _EMPTY:
        return bytes(width)
    try:
        if end == _BINARY:
            return b"\x80" + value.to_bytes(width - 1)
        length, written = _ENDS[end]
        digits = b"%0*o" % (width - length, value)
    except (OverflowError, ValueError) as error:
        raise DeltaError("the delta has a number that does not fit into a tar header") from error
    if value < 0 or len(digits) != width - length:
        raise DeltaError("the delta has a number that does not fit into a tar header")
    return digits + written


def _text(content: bytes) -> bytes:
    return content.partition(b"\0")[0]


def _path(name: bytes, kind: int) -> tuple[int, bytes]:
    path = name[2:] if name.startswith(b"./") else name
    if kind == FOLDER:
        path = path.removesuffix(b"/")
    names = _DOTTED if name.startswith(b"./") else _PLAIN
    if _name(path, names, kind) != name or any(
        part in (b"", b".", b"..") for part in path.split(b"/") if path
    ):
        return _VERBATIM, name
    return names, path


def _name(path: bytes, names: int, kind: int) -> bytes:
    if names & 3 == _VERBATIM:
        return path
    end = b"/" if kind == FOLDER and path else b""
    return (b"./" if names & 3 == _DOTTED else b"") + path + end

"""The container: header, index and their limits, as docs/delta-format.md has them."""

import struct

import pytest

from gantry.deltas.format import (
    HEADER_LENGTH,
    INDEX_LIMIT,
    MAGIC,
    Codec,
    Column,
    DeltaError,
    Group,
    Index,
    Layer,
    Order,
    Packing,
    encode_index,
    read_header,
    read_index,
    unzigzag,
    varint,
    zigzag,
)

CONFIG, OLD, NEW = (f"sha256:{digit * 64}" for digit in "abc")
LZMA = Packing(Codec.LZMA1, 3, 20, 4)


def index_of(*groups: Group, base: int | None = 0, size: int = 1024) -> Index:
    return Index(CONFIG, (OLD,), (Layer(NEW, size, base, Order.PATHS, 7, groups),))


def read(index: Index) -> Index:
    content = encode_index(index)
    length, check = read_header(content[:HEADER_LENGTH])
    assert length == len(content) - HEADER_LENGTH
    return read_index(content[HEADER_LENGTH:], check)


def test_an_index_comes_back() -> None:
    groups = (
        Group(Packing(Codec.RAW), ((Column.KINDS, 3), (Column.NAMES, 5)), 8),
        Group(LZMA, ((Column.NEW, 3_000_000),), 1_000_000),
        Group(Packing(Codec.BZIP2), ((Column.DIFF, 2**33),), 17),
    )
    index = index_of(*groups)
    assert read(index) == index
    assert read(index_of(base=None)).layers[0].base is None
    assert index.payload == 1_000_025


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ((Group(Packing(Codec.RAW), ((Column.KINDS, 3),), 4),), "lengths differ"),
        ((Group(LZMA, (), 4),), "packed together"),
        ((Group(LZMA, ((Column.KINDS, 2**20), (Column.NAMES, 1)), 4),), "packed together"),
        (
            (Group(LZMA, ((Column.KINDS, 1),), 4), Group(LZMA, ((Column.KINDS, 1),), 4)),
            "same column twice",
        ),
        ((Group(Packing(Codec.LZMA2, 225, 20), ((Column.KINDS, 1),), 4),), "LZMA settings"),
        # lc + lp over 4, which liblzma refuses too.
        ((Group(Packing(Codec.LZMA1, 3 + 9 * 2, 20), ((Column.KINDS, 1),), 4),), "LZMA settings"),
        ((Group(Packing(Codec.LZMA1, 3, 24), ((Column.KINDS, 1),), 4),), "LZMA settings"),
        (
            tuple(Group(Packing(Codec.BZIP2), ((Column(n), 1),), 4) for n in range(4)),
            "to unpack: too many",
        ),
        (tuple(Group(LZMA, ((Column.KINDS, 1),), 4) for _ in range(65)), "number of groups"),
        ((Group(LZMA, ((Column.KINDS, 2**40 + 1),), 4),), "column's length"),
    ],
)
def test_what_an_index_may_not_say(groups: tuple[Group, ...], message: str) -> None:
    with pytest.raises(DeltaError, match=message):
        read(index_of(*groups))


def test_layers_and_sources_are_there_once_and_known() -> None:
    layer = index_of().layers[0]
    with pytest.raises(DeltaError, match="same layer twice"):
        read(Index(CONFIG, (OLD,), (layer, layer)))
    with pytest.raises(DeltaError, match="same layer twice"):
        read(Index(CONFIG, (OLD, OLD), ()))
    with pytest.raises(DeltaError, match="a layer's base"):
        read(index_of(base=1))
    with pytest.raises(DeltaError, match="a layer's size"):
        read(index_of(size=2**40 + 1))
    with pytest.raises(DeltaError, match="no digest"):
        encode_index(Index("sha512:00", (), ()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no delta"),
        (MAGIC.replace(b"\n", b"\r\n") + bytes(16), "no delta"),
        (struct.pack(">8sII8s", MAGIC, 2, 9, bytes(8)), "format 2"),
        (struct.pack(">8sII8s", MAGIC, 1, 0, bytes(8)), "has 0 bytes"),
        (struct.pack(">8sII8s", MAGIC, 1, INDEX_LIMIT + 1, bytes(8)), "may be"),
    ],
)
def test_what_begins_no_delta(content: bytes, message: str) -> None:
    with pytest.raises(DeltaError, match=message):
        read_header(content)


def test_every_byte_of_the_index_is_checked_and_used() -> None:
    content = encode_index(index_of())
    _, check = read_header(content[:HEADER_LENGTH])
    index = content[HEADER_LENGTH:]
    for at in range(len(index)):
        changed = bytearray(index)
        changed[at] ^= 1
        with pytest.raises(DeltaError, match="damaged"):
            read_index(bytes(changed), check)


@pytest.mark.parametrize("value", [0, 1, -1, 63, -64, 2**40, -(2**40)])
def test_signed_numbers_come_back(value: int) -> None:
    assert unzigzag(zigzag(value)) == value


def test_numbers_are_as_the_document_says() -> None:
    assert varint(0) == b"\0"
    assert varint(300) == b"\xac\x02"
    assert [zigzag(value) for value in (0, -1, 1, -2)] == [0, 1, 2, 3]

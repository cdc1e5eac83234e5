"""The container: header, names, index and their limits, as docs/delta-format.md has them."""

import io
from dataclasses import replace

import pytest

from gantry.deltas.format import (
    INDEX_LIMIT,
    Codec,
    Column,
    DeltaError,
    Group,
    Index,
    Layer,
    Order,
    Packing,
    Row,
    unzigzag,
    varint,
    zigzag,
)
from gantry.deltas.index import HEADER_LENGTH, SETTINGS, encode, encode_layer, lzma_properties, read
from gantry.deltas.names import Names, names_of_pair

CONFIG, OLD, NEW, NEXT = (f"sha256:{digit * 64}" for digit in "abcd")
NAMES = Names(CONFIG, (OLD,), (NEW,))
LZMA = Packing(Codec.LZMA1, 3, 20, 4)
RAW = Packing(Codec.RAW)


def index_of(*groups: Group, base: int | None = 0, size: int = 1024) -> Index:
    return Index((Layer(size, base, Order.PATHS, groups, 7 if groups else 0),))


def row_of(packing: Packing = RAW, raw: int = 3, content: bytes = b"row") -> Layer:
    return Layer(1000, None, Order.FOLDERS, row=Row(packing, raw, content))


def opened(content: bytes, names: Names | None = None, payload: int = 0) -> tuple[Names, Index]:
    return read(io.BytesIO(content), len(content) + payload, names)


def again(index: Index, names: Names = NAMES) -> Index:
    """What is read of it, with names in the file and without."""
    found, one = opened(encode(index, names, bare=False), payload=index.payload)
    assert found == names
    bare = encode(index, names, bare=True)
    assert opened(bare, names, index.payload) == (names, one)
    return one


def test_an_index_comes_back() -> None:
    groups = (
        Group(RAW, ((Column.KINDS, 3), (Column.NAMES, 5)), 8),
        Group(LZMA, ((Column.NEW, 3_000_000),), 1_000_000),
        Group(Packing(Codec.BZIP2), ((Column.DIFF, 2**33),), 17),
    )
    index = index_of(*groups)
    assert again(index) == index
    assert again(index_of(base=None)).layers[0].base is None
    assert index.payload == 1_000_025
    assert index.layers[0].encoded == 1_000_025


def test_rows_come_back() -> None:
    layers = (
        row_of(),
        row_of(LZMA, 70_000, b"packed"),
        row_of(content=b"", raw=0),
        row_of(Packing(Codec.LZMA1, 3, 12), 2, b"last"),
    )
    names = replace(NAMES, layers=tuple(f"sha256:{number:064}" for number in range(len(layers))))
    assert again(Index(layers), names) == Index(layers)
    assert layers[1].encoded == 6
    assert again(Index(()), replace(NAMES, layers=())) == Index(())


def test_usual_settings_are_one_byte() -> None:
    for lc, lp, pb in SETTINGS:
        for dictionary in range(12, 24):
            usual = row_of(Packing(Codec.LZMA1, lzma_properties(lc, lp, pb), dictionary))
            assert again(Index((usual,))) == Index((usual,))
            assert len(encode_layer(usual, is_last=True)) == len(
                encode_layer(row_of(), is_last=True)
            ) + len(varint(3))


def test_a_small_delta_has_little_beside_its_row() -> None:
    assert len(encode(Index((row_of(),)), NAMES, bare=True)) == HEADER_LENGTH + 4 + 3


@pytest.mark.parametrize(
    ("groups", "message"),
    [
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
        ((Group(LZMA, ((Column.KINDS, 1),), 2**40 + 1),), "group's length"),
    ],
)
def test_what_an_index_may_not_say(groups: tuple[Group, ...], message: str) -> None:
    with pytest.raises(DeltaError, match=message):
        again(index_of(*groups))


def test_layers_and_sources_are_there_once_and_known() -> None:
    layer = row_of()
    with pytest.raises(DeltaError, match="same layer twice"):
        again(Index((layer, layer)), replace(NAMES, layers=(NEW, NEW)))
    with pytest.raises(DeltaError, match="same layer twice"):
        again(Index(()), Names(CONFIG, (OLD, OLD), ()))
    with pytest.raises(DeltaError, match="a layer's base"):
        again(index_of(base=1))
    with pytest.raises(DeltaError, match="a layer's size"):
        again(index_of(size=2**40 + 512))
    with pytest.raises(DeltaError, match="no digest"):
        encode(Index(()), Names("sha512:00", (), ()), bare=False)
    with pytest.raises(DeltaError, match="would have"):
        encode(Index((row_of(content=bytes(INDEX_LIMIT)),)), NAMES, bare=False)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no delta"),
        (b"\x89PNG\r\n\x1a\n", "no delta"),
        (b"\x89G\x02", "no delta"),
        (b"\x89GDELTA\n" + bytes([0, 0, 0, 1]) + bytes(300), "has format 1"),
        (b"\x89G\x03" + bytes(300), r"has format 3 \(0x3\)"),
        (b"\x89G\x82" + bytes(300), r"has format 2 \(0x82\)"),
        (b"\x89G\x42" + bytes(4) + varint(INDEX_LIMIT + 1), "at most 1048576"),
    ],
)
def test_what_begins_no_delta(content: bytes, message: str) -> None:
    with pytest.raises(DeltaError, match=message):
        opened(content, NAMES)


def test_a_delta_for_others_is_refused() -> None:
    index = index_of(Group(RAW, ((Column.KINDS, 3),), 3))
    named, bare = (encode(index, NAMES, bare=each) for each in (False, True))
    for others in (
        replace(NAMES, config=NEXT),
        replace(NAMES, sources=()),
        replace(NAMES, sources=(OLD, NEXT)),
        replace(NAMES, sources=(NEXT,)),
        replace(NAMES, layers=(NEXT,)),
        replace(NAMES, layers=(NEW, NEXT)),
    ):
        with pytest.raises(DeltaError, match="for other images"):
            opened(named, others, 3)
        with pytest.raises(DeltaError, match="for other images"):
            opened(bare, others, 3)
    with pytest.raises(DeltaError, match="holds no names"):
        opened(bare, payload=3)


@pytest.mark.parametrize(
    "index", [index_of(Group(LZMA, ((Column.KINDS, 3),), 3)), Index((row_of(),))]
)
@pytest.mark.parametrize("bare", [True, False])
def test_every_byte_of_the_beginning_is_checked(index: Index, bare: bool) -> None:
    content = encode(index, NAMES, bare)
    for at in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[at] ^= 1 << bit
            with pytest.raises(DeltaError):
                opened(bytes(changed), NAMES if bare else None, index.payload)


def test_both_sides_come_to_the_same_names() -> None:
    images = [["a", "b", "c"], ["a", "x"], ["a", "b", "c"]]
    found = names_of_pair(images, CONFIG, ["a", "b", "d", "e", "d"])
    assert found == Names(CONFIG, ("a", "b", "c", "x"), ("d", "e"))
    assert names_of_pair(reversed(images), CONFIG, ["a", "b", "d", "e", "d"]) == found
    assert names_of_pair(images, CONFIG, ["a", "b"]).layers == ()
    assert names_of_pair([], CONFIG, ["a"]) == Names(CONFIG, (), ("a",))


@pytest.mark.parametrize("value", [0, 1, -1, 63, -64, 2**40, -(2**40)])
def test_signed_numbers_come_back(value: int) -> None:
    assert unzigzag(zigzag(value)) == value


def test_numbers_are_as_the_document_says() -> None:
    assert varint(0) == b"\0"
    assert varint(300) == b"\xac\x02"
    assert [zigzag(value) for value in (0, -1, 1, -2)] == [0, 1, 2, 3]

"""Bodies that arrive in pieces."""

import gzip
import itertools
import random
import zlib

import pytest

from gantry.logs.body import PIECE, Splitter, Unpacker
from gantry.logs.errors import BadRequestError, UnsupportedError
from gantry.logs.lines import MAX_RAW


def unpack(encoding: str, pieces: list[bytes]) -> bytes:
    unpacker = Unpacker(encoding)
    unpacked = b"".join(part for piece in pieces for part in unpacker.feed(piece))
    unpacker.finish()
    return unpacked


def split(pieces: list[bytes]) -> list[bytes | None]:
    splitter = Splitter()
    return [line for piece in pieces for line in splitter.feed(piece)] + list(splitter.finish())


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_gzip_in_pieces_of_any_size(size: int) -> None:
    text = b"one line\nand another\n" * 50
    # Two members one after the other are one stream, too.
    packed = gzip.compress(text) + gzip.compress(b"the end\n")
    pieces = [packed[at : at + size] for at in range(0, len(packed), size)]
    assert unpack("gzip", pieces) == text + b"the end\n"


def test_a_flushed_line_comes_out_before_the_stream_ends() -> None:
    packer = zlib.compressobj(wbits=31)
    unpacker = Unpacker("gzip")
    flushed = packer.compress(b"now\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    assert b"".join(unpacker.feed(flushed)) == b"now\n"


def test_a_bomb_comes_out_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(50 * 1024 * 1024))
    sizes = [len(piece) for piece in Unpacker("gzip").feed(bomb)]
    assert max(sizes) <= PIECE
    assert sum(sizes) == 50 * 1024 * 1024


def test_wrong_encodings() -> None:
    assert unpack("", [b"a", b"b"]) == b"ab"
    assert unpack("gzip", []) == b""
    with pytest.raises(UnsupportedError, match="'br'"):
        Unpacker("br")
    with pytest.raises(BadRequestError, match="not gzip"):
        unpack("gzip", [b"plain text"])
    with pytest.raises(BadRequestError, match="ends before its end"):
        unpack("gzip", [gzip.compress(b"text" * 100)[:-10]])


def test_lines_do_not_depend_on_how_they_arrive() -> None:
    text = b"first\r\n\n second \nthird"
    for seed in range(50):
        cuts = sorted(random.Random(seed).choices(range(len(text)), k=4))  # noqa: S311 - no secret
        pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
        assert split(pieces) == [b"first", b"second", b"third"]


def test_a_line_without_end_is_skipped_in_bounded_memory() -> None:
    splitter = Splitter()
    for _ in range(100):
        assert list(splitter.feed(b"x" * PIECE)) == []
        assert len(splitter._rest) <= MAX_RAW + PIECE
    assert list(splitter.feed(b"x\nnext\n")) == [None, b"next"]
    assert split([b"x" * (MAX_RAW + 1) + b"\nnext"]) == [None, b"next"]
    assert split([b"x" * MAX_RAW]) == [b"x" * MAX_RAW]

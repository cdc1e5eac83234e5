"""Blobs in any pieces become tars; any other byte is found out; bombs stay small."""

import gzip
import hashlib
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gantry.deltas.server.errors import TemporaryError, WholeError
from gantry.deltas.server.images import Layer
from gantry.deltas.server.unpack import OUTPUT_LIMIT, Unpacker

PACK = {
    "gzip": lambda content: gzip.compress(content, 6, mtime=0),
    "zstd": zstandard.ZstdCompressor().compress,
    "": bytes,
}


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer_of(blob: bytes, tar: bytes, how: str) -> Layer:
    return Layer(digest(blob), len(blob), digest(tar), how, "v2/x")


def unpacked(layer: Layer, blob: bytes, piece: int) -> bytes:
    unpacker = Unpacker(layer)
    out = b""
    for start in range(0, len(blob), piece):
        out += b"".join(unpacker.feed(blob[start : start + piece]))
    unpacker.finish()
    assert unpacker.size == len(out)
    return out


@given(
    st.lists(st.binary(max_size=3000), max_size=4),
    st.sampled_from(sorted(PACK)),
    st.integers(1, 2000),
)
def test_any_pieces_and_several_members(parts: list[bytes], how: str, piece: int) -> None:
    blob = b"".join(PACK[how](each) for each in [*parts, b"end"])
    tar = b"".join([*parts, b"end"])
    assert unpacked(layer_of(blob, tar, how), blob, piece) == tar


@pytest.mark.parametrize("how", sorted(PACK))
def test_another_byte_or_another_length_is_found_out(how: str) -> None:
    tar = bytes(range(256)) * 40
    blob = PACK[how](tar)
    layer = layer_of(blob, tar, how)
    for wrong in (blob[:-1], blob + b"x", blob[:20] + b"\xff" + blob[21:], b""):
        with pytest.raises(TemporaryError, match="corrupt layer"):
            unpacked(layer, wrong, 999)


@pytest.mark.parametrize("how", sorted(PACK))
def test_a_blob_that_holds_another_tar(how: str) -> None:
    blob = PACK[how](b"this")
    with pytest.raises(WholeError, match="as the image says"):
        unpacked(layer_of(blob, b"that", how), blob, 10)


def test_a_stream_without_its_end() -> None:
    packer = zlib.compressobj(wbits=31)
    blob = packer.compress(b"x" * 1000) + packer.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(WholeError, match="as the image says"):
        unpacked(layer_of(blob, b"x" * 1000, "gzip"), blob, 100)


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_a_bomb_comes_in_bounded_pieces(how: str) -> None:
    bomb = bytes(64 * OUTPUT_LIMIT)
    blob = PACK[how](bomb)
    unpacker = Unpacker(layer_of(blob, bomb, how))
    largest = max(len(each) for each in unpacker.feed(blob))
    unpacker.finish()
    assert largest <= 40 * OUTPUT_LIMIT
    assert unpacker.size == len(bomb)

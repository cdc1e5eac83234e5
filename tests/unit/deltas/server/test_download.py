"""Ranges (RFC 9110, section 14) against a plain reading of what they mean."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.deltas.server.download import counted, span_of
from gantry.deltas.server.errors import RangeError

FILE = bytes(range(200))
TAG = '"sha256:x"'


@given(st.integers(0, 300), st.none() | st.integers(0, 300))
def test_from_and_to(first: int, last: int | None) -> None:
    asked = f"bytes={first}-{'' if last is None else last}"
    if last is not None and last < first:
        assert not span_of(len(FILE), asked, None, TAG).is_part
        return
    wanted = FILE[first : None if last is None else last + 1]
    if not wanted:
        with pytest.raises(RangeError) as caught:
            span_of(len(FILE), asked, None, TAG)
        assert caught.value.size == len(FILE)
        return
    span = span_of(len(FILE), asked, None, TAG)
    assert FILE[span.start : span.end] == wanted
    assert span.headers["Content-Range"] == f"bytes {span.start}-{span.end - 1}/200"


@given(st.integers(1, 300))
def test_from_the_end(count: int) -> None:
    span = span_of(len(FILE), f"bytes=-{count}", None, TAG)
    assert FILE[span.start : span.end] == FILE[-count:]


@pytest.mark.parametrize("asked", [None, "", "bytes=", "bytes=a-", "bytes=1-2,3-", "Bytes 1-2"])
def test_no_range_is_the_whole(asked: str | None) -> None:
    span = span_of(len(FILE), asked, None, TAG)
    assert (span.start, span.end, span.is_part) == (0, 200, False)
    assert "Content-Range" not in span.headers


def test_nothing_is_before_the_end_of_nothing() -> None:
    with pytest.raises(RangeError):
        span_of(200, "bytes=-0", None, TAG)


def test_a_range_of_another_file() -> None:
    assert not span_of(200, "bytes=5-", '"other"', TAG).is_part
    assert span_of(200, "bytes=5-", TAG, TAG).is_part


async def _pieces(*some: bytes) -> AsyncIterator[bytes]:
    for each in some:
        yield each
    # As a storage that looks once more whether there is anything.
    await asyncio.sleep(60)


@pytest.mark.parametrize(("size", "is_whole"), [(4, True), (5, False)])
def test_who_goes_with_the_last_byte_is_counted(size: int, is_whole: bool) -> None:
    heard: list[object] = []

    async def download() -> None:
        body = counted(_pieces(b"abc", b"d"), size, heard.append, lambda: heard.append("last"))
        async for _ in body:
            pass

    async def gone() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(download(), 0.01)

    asyncio.run(gone())
    assert heard == ([3, 1, "last"] if is_whole else [3, 1])

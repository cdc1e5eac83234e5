"""The file itself: whole, or from where a broken download goes on (RFC 9110, section 14)."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from gantry.deltas.server.errors import RangeError

_RANGE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes from `start` to before `end` of a file of `size`; `is_part` as the header asks."""

    start: int
    end: int
    size: int
    is_part: bool

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says of it."""
        length = {"Content-Length": str(self.end - self.start), "Accept-Ranges": "bytes"}
        if not self.is_part:
            return length
        return length | {"Content-Range": f"bytes {self.start}-{self.end - 1}/{self.size}"}


def span_of(size: int, asked: str | None, if_range: str | None, etag: str) -> Span:
    """What a request with these headers is to get.

    What is no single range is as good as none, and so is one of another file.

    Raises:
        RangeError: the file ends before the range begins.
    """
    match = _RANGE.fullmatch(asked or "")
    if match is None or (if_range is not None and if_range != etag):
        return Span(0, size, size, is_part=False)
    first, last = match["first"], match["last"]
    if first:
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < start:
            return Span(0, size, size, is_part=False)
    elif last:
        start, end = max(0, size - int(last)), size
    else:
        return Span(0, size, size, is_part=False)
    if start >= end:
        raise RangeError(f"the delta has {size} bytes, and none from {start} on", size)
    return Span(start, end, size, is_part=True)


async def begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same pieces; the first one is there already, so that an error is not half an answer."""
    first = await anext(pieces, b"")

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        async for each in pieces:
            yield each

    return all_pieces()


async def counted(
    pieces: AsyncIterator[bytes],
    left: int,
    on_sent: Callable[[int], object],
    on_last: Callable[[], object],
) -> AsyncIterator[bytes]:
    """The same pieces, `left` bytes; `on_sent` hears of each, `on_last` that it was the last one.

    Nothing is awaited in between: who has the last byte may go, and whatever is awaited then ends.
    """
    async for each in pieces:
        yield each
        on_sent(len(each))
        left -= len(each)
        if each and not left:
            on_last()

"""Differences between two files, by bsdiff, in windows that fit into memory."""

import contextlib
import ctypes
import multiprocessing
import os
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bsdiff4.core import diff as bsdiff

from gantry.deltas.create.padding import Rows, filled, subtract
from gantry.deltas.differences import WORD

# What bsdiff takes for each byte: two rows of 64-bit numbers while it sorts the source, then one,
# and copies of the target.
_SORTING, _SEARCHING, _COPIES = 17, 9, 5
# A piece of a target is looked for in so much more of the source, if not in all of it.
_WIDER = 1.5
_LEAST = 32 * 1024
# Steps that add fewer bytes cost more than to have these bytes as new ones.
_SHORT = 32
# Smaller files are hardly machine code.
_ALIGNED_FROM = 16 * 1024
# bsdiff's numbers: little-endian, the uppermost bit is the sign.
_CONTROL = struct.Struct("<3Q")
_SIGN = 1 << 63
# M_MMAP_THRESHOLD of malloc.h.
_MMAP_THRESHOLD = -3


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a file."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes added to the source's at `position`, then new bytes."""

    position: int
    add: int
    insert: int


@dataclass(frozen=True, slots=True)
class Patch:
    """Steps from a source to a target, the differences that are added, and the new bytes."""

    steps: tuple[Step, ...]
    difference: bytes
    new: bytes


@dataclass(frozen=True, slots=True)
class Job:
    """A stretch of a target that is told by a stretch of a source, `begin` bytes into its file."""

    source: Stretch
    target: Stretch
    begin: int

    @property
    def memory(self) -> int:
        """Bytes that it takes, about."""
        return _memory(self.source.length, self.target.length)


def jobs(source: Stretch, target: Stretch, memory: int) -> Iterator[Job]:
    """The work of one file, in pieces that take `memory` bytes at most."""
    if _memory(source.length, target.length) <= memory:
        yield Job(source, target, 0)
        return
    piece, window = _pieces(source.length, target.length, memory)
    for at in range(0, target.length, piece):
        length = min(piece, target.length - at)
        # The source's window lies where the target's piece would, were both of one length.
        middle = (at + length // 2) * source.length // target.length
        begin = max(0, min(middle - window // 2, source.length - window))
        yield Job(
            Stretch(source.path, source.offset + begin, window),
            Stretch(target.path, target.offset + at, length),
            begin,
        )


def _memory(source: int, target: int) -> int:
    return max(source * _SORTING + target, source * _SEARCHING + target * _COPIES)


def _pieces(source: int, target: int, memory: int) -> tuple[int, int]:
    """The length of a target's pieces, whole words, and of the source's windows: as few as may be,
    as each window is sorted anew.
    """
    count = 1
    while True:
        count += 1
        piece = max(-(-target // count), _LEAST)
        piece += -piece % WORD
        window = min((memory - piece) // _SORTING, (memory - piece * _COPIES) // _SEARCHING, source)
        if window >= min(piece * _WIDER, source):
            return piece, window
        if piece <= _LEAST:
            return piece, min(int(piece * _WIDER), source)


def patch(job: Job) -> Patch:
    """The steps from a source to a target."""
    spans, sources, targets = _found(job)
    source, target = _content(job.source), _content(job.target)
    for rows, is_source in ((sources, True), (targets, False)):
        for begin, end in rows:
            spans = [_unfilled(each, begin, end, is_source, source, target) for each in spans]
    if len(target) >= _ALIGNED_FROM:
        spans = _aligned(spans, source, target)
    steps: list[Step] = []
    new = []
    done = 0
    for span in spans:
        if fresh := span.begin - done:
            before = steps.pop() if steps else Step(0, 0, 0)
            steps.append(Step(before.position, before.add, before.insert + fresh))
            new.append(target[done : span.begin])
        done = span.begin + len(span.difference)
        steps.append(Step(job.begin + span.begin + span.shift, len(span.difference), 0))
    if done < len(target):
        before = steps.pop() if steps else Step(0, 0, 0)
        steps.append(Step(before.position, before.add, before.insert + len(target) - done))
        new.append(target[done:])
    return Patch(tuple(steps), b"".join(span.difference for span in spans), b"".join(new))


@dataclass(frozen=True, slots=True)
class _Span:
    """A stretch of a target that is the source's, `shift` bytes on, and differences."""

    begin: int
    shift: int
    difference: bytes


def _found(job: Job) -> tuple[list[_Span], Rows, Rows]:
    """What bsdiff finds, with noise for long rows of zeros, which source and target have there."""
    (source, sources), (target, targets) = (filled(_content(e)) for e in (job.source, job.target))
    control, difference, _ = bsdiff(source, target)
    return _spans(control, difference), sources, targets


def _unfilled(
    span: _Span, begin: int, end: int, is_source: bool, source: bytes, target: bytes
) -> _Span:
    """A span with the right differences where the row was."""
    shift = span.shift if is_source else 0
    first = max(begin - shift, span.begin)
    last = min(end - shift, span.begin + len(span.difference))
    if first >= last:
        return span
    inner = subtract(target[first:last], source[first + span.shift : last + span.shift])
    before, behind = span.difference[: first - span.begin], span.difference[last - span.begin :]
    return _Span(span.begin, span.shift, before + inner + behind)


def _spans(control: bytes, difference: bytes) -> list[_Span]:
    """What bsdiff found, without what is too short."""
    spans: list[_Span] = []
    position = done = added = 0
    for add, insert, seek in _CONTROL.iter_unpack(control):
        shift = position - done
        if add >= _SHORT or (add and spans and spans[-1].shift == shift):
            spans.append(_Span(done, shift, difference[added : added + add]))
        done += add + insert
        added += add
        position += add + (_SIGN - seek if seek & _SIGN else seek)
    return spans


def _aligned(spans: list[_Span], source: bytes, target: bytes) -> list[_Span]:
    """The same with ends where the target's words end: what is told of machine code, or of tables,
    is then the same words again, and what is new is whole instructions.
    """
    found: list[_Span] = []
    done = 0
    for span in spans:
        begin, end = span.begin, span.begin + len(span.difference)
        first = max(begin - begin % WORD, done)
        if first + span.shift < 0:
            first = begin + -begin % WORD
        last = end + -end % WORD
        if last > len(target) or last + span.shift > len(source):
            last = end - end % WORD
        if last <= first:
            continue
        before = subtract(target[first:begin], source[first + span.shift : begin + span.shift])
        behind = subtract(target[end:last], source[end + span.shift : last + span.shift])
        inner = span.difference[max(first - begin, 0) : len(span.difference) - max(end - last, 0)]
        found.append(_Span(first, span.shift, before + inner + behind))
        done = last
    return found


def give_back_memory() -> None:
    """For processes that live on: what a job took in large blocks is the system's again.

    glibc keeps freed blocks of up to 32 MiB, once there were such. Elsewhere this does nothing.
    """
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 1024**2)


def begin_helper() -> None:
    """For processes of a pool: they give memory back, and end when the one that started them is
    killed. By themselves they would wait for its next job for ever, with its output open."""
    give_back_memory()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def _content(stretch: Stretch) -> bytes:
    with stretch.path.open("rb") as stream:
        stream.seek(stretch.offset)
        return stream.read(stretch.length)

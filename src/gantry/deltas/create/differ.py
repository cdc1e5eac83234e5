"""Differences between two files, by bsdiff, in windows that fit into memory."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bsdiff4.core import diff as bsdiff

# What bsdiff takes for each byte of the source: two rows of 64-bit numbers.
_PER_BYTE = 17
# bsdiff's numbers: little-endian, the uppermost bit is the sign.
_CONTROL = struct.Struct("<3Q")
_SIGN = 1 << 63


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


def jobs(source: Stretch, target: Stretch, memory: int) -> Iterator[Job]:
    """The work of one file, in pieces that take `memory` bytes at most."""
    window = max(memory // _PER_BYTE, 64 * 1024)
    if source.length + target.length // _PER_BYTE <= window:
        yield Job(source, target, 0)
        return
    piece = window // 2
    for at in range(0, target.length, piece):
        length = min(piece, target.length - at)
        begin = max(0, min(at + length // 2 - window // 2, source.length - window))
        span = min(window, source.length)
        yield Job(
            Stretch(source.path, source.offset + begin, span),
            Stretch(target.path, target.offset + at, length),
            begin,
        )


def patch(job: Job) -> Patch:
    """The steps from a source to a target."""
    control, difference, new = bsdiff(_content(job.source), _content(job.target))
    steps = []
    position = job.begin
    for add, insert, seek in _CONTROL.iter_unpack(control):
        if add or insert:
            steps.append(Step(position, add, insert))
        position += add + (_SIGN - seek if seek & _SIGN else seek)
    return Patch(tuple(steps), difference, new)


def _content(stretch: Stretch) -> bytes:
    with stretch.path.open("rb") as stream:
        stream.seek(stretch.offset)
        return stream.read(stretch.length)

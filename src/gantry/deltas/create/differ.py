"""Differences between two files, by bsdiff, in windows that fit into memory."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bsdiff4.core import diff as bsdiff

# What bsdiff takes for each byte: two rows of 64-bit numbers for the source, copies of the target.
_SOURCE_BYTE, _TARGET_BYTE = 17, 4
# Steps that add fewer bytes cost more than to have these bytes as new ones.
_SHORT = 32
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

    @property
    def memory(self) -> int:
        """Bytes that it takes, about."""
        return self.source.length * _SOURCE_BYTE + self.target.length * _TARGET_BYTE


def jobs(source: Stretch, target: Stretch, memory: int) -> Iterator[Job]:
    """The work of one file, in pieces that take `memory` bytes at most."""
    whole = Job(source, target, 0)
    if whole.memory <= memory:
        yield whole
        return
    window = memory // (_SOURCE_BYTE + _TARGET_BYTE)
    piece = max(window // 2, 32 * 1024)
    for at in range(0, target.length, piece):
        length = min(piece, target.length - at)
        # The source's window lies where the target's piece would, were both of one length.
        middle = (at + length // 2) * source.length // target.length
        begin = max(0, min(middle - window // 2, source.length - window))
        yield Job(
            Stretch(source.path, source.offset + begin, min(window, source.length)),
            Stretch(target.path, target.offset + at, length),
            begin,
        )


def patch(job: Job) -> Patch:
    """The steps from a source to a target."""
    target = _content(job.target)
    control, difference, _ = bsdiff(_content(job.source), target)
    steps: list[Step] = []
    differences, new = [], []
    position, done, added = job.begin, 0, 0
    for add, insert, seek in _CONTROL.iter_unpack(control):
        length = add + insert
        before = steps[-1] if steps else None
        if before and add < _SHORT and position != before.position + before.add + before.insert:
            steps[-1] = Step(before.position, before.add, before.insert + length)
            new.append(target[done : done + length])
        elif length:
            steps.append(Step(position, add, insert))
            differences.append(difference[added : added + add])
            new.append(target[done + add : done + length])
        done += length
        added += add
        position += add + (_SIGN - seek if seek & _SIGN else seek)
    return Patch(tuple(steps), b"".join(differences), b"".join(new))


def _content(stretch: Stretch) -> bytes:
    with stretch.path.open("rb") as stream:
        stream.seek(stretch.offset)
        return stream.read(stretch.length)

"""Patches by bsdiff: whole, in windows, and without tiny steps."""

import random
from pathlib import Path

import pytest

from gantry.deltas.create import Options, create
from gantry.deltas.create.differ import Stretch, jobs, patch
from tests.layers import CONFIG, Member, dice, layer, tar_of


def patched(source: bytes, target: bytes, memory: int, folder: Path) -> tuple[bytes, int, int]:
    """The target out of its patches, the number of jobs, and of new bytes."""
    old, new = folder / "old", folder / "new"
    old.write_bytes(b"before" + source)
    new.write_bytes(b"be" + target)
    work = list(jobs(Stretch(old, 6, len(source)), Stretch(new, 2, len(target)), memory))
    assert all(job.memory <= max(memory, 2 * 1024**2) for job in work)
    out = bytearray()
    fresh = 0
    for job in work:
        found = patch(job)
        added = inserted = 0
        for step in found.steps:
            origin = source[step.position : step.position + step.add]
            difference = found.difference[added : added + step.add]
            out += bytes((a + b) & 255 for a, b in zip(origin, difference, strict=True))
            out += found.new[inserted : inserted + step.insert]
            added += step.add
            inserted += step.insert
        assert (added, inserted) == (len(found.difference), len(found.new))
        fresh += inserted
    return bytes(out), len(work), fresh


@pytest.mark.parametrize(("memory", "pieces"), [(64 * 1024**2, 1), (2 * 1024**2, 3)])
def test_a_patch_gives_the_target(memory: int, pieces: int, tmp_path: Path) -> None:
    chance = random.Random(1)  # noqa: S311 - the same bytes each time
    source = chance.randbytes(200_000)
    target = source[:50_000] + b"new bytes" * 20 + source[60_000:] + source[:30_000]
    out, work, fresh = patched(source, target, memory, tmp_path)
    assert out == target
    assert work == pieces
    assert fresh < len(target) // 3


def test_steps_that_add_little_are_new_bytes(tmp_path: Path) -> None:
    chance = random.Random(2)  # noqa: S311 - the same bytes each time
    source = chance.randbytes(20_000)
    # Twelve known bytes at a time, from all over the source, between unknown ones.
    target = b"".join(
        source[at : at + 12] + chance.randbytes(12)
        for at in (chance.randrange(19_000) for _ in range(300))
    )
    out, _, fresh = patched(source, target, 10**8, tmp_path)
    assert out == target
    assert fresh > len(target) * 0.95


def test_steps_of_machine_code_are_whole_words(tmp_path: Path) -> None:
    chance = random.Random(3)  # noqa: S311 - the same bytes each time
    source = chance.randbytes(40_002)
    target = source[:9_001] + chance.randbytes(501) + source[9_100:30_003] + source[30_010:]
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(source)
    new.write_bytes(target)
    (job,) = jobs(Stretch(old, 0, len(source)), Stretch(new, 0, len(target)), 10**8)
    found = patch(job)
    done = 0
    for step in found.steps:
        assert done % 4 == 0
        assert step.add % 4 == 0
        assert step.position + step.add <= len(source)
        done += step.add + step.insert
    assert len(found.steps) >= 3
    assert patched(source, target, 10**8, tmp_path)[0] == target


def test_the_bytes_are_the_same_for_any_number_of_processes(tmp_path: Path) -> None:
    chance = dice(4)
    source = chance.randbytes(1_500_000)
    target = source[:400_000] + chance.randbytes(7_000) + source[300_000:]
    old = [layer(tmp_path, tar_of([Member("file", content=source)]))]
    new = [layer(tmp_path, tar_of([Member("file", content=target)]))]
    found = set()
    for workers in (1, 2, 4):
        out = tmp_path / f"delta{workers}"
        # So little that the file is taken in windows.
        create(old, new, CONFIG, out, Options(memory=32 * 1024**2, workers=workers))
        found.add(out.read_bytes())
    assert len(found) == 1

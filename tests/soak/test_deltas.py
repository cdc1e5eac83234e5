"""Deltas of what is large: a device applies them in the memory that it has for anything."""

import hashlib
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from gantry.deltas.create import LayerTar
from gantry.deltas.format import NAMES_LIMIT
from tests.layers import Made, Member, apply_measured, dice, extracted, layer, tar_of

MIB = 1024**2
MEMORY = 32 * MIB
FILES = 100_000
LARGE = 2 * 1024 * MIB

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]


def applied(found: Made, out: Path) -> None:
    """What comes out is the layer, within the memory of a device."""
    (target,) = found.targets
    code, said, peak = apply_measured(found, target.diff_id, out, timeout=3600)
    assert code == 0, said
    assert same(out, target.path)
    assert peak <= MEMORY


def same(one: Path, other: Path) -> bool:
    with one.open("rb") as a, other.open("rb") as b:
        while True:
            some, more = a.read(MIB), b.read(MIB)
            if some != more:
                return False
            if not some:
                return True


def test_a_hundred_thousand_small_files(tmp_path: Path) -> None:
    chance = dice(100)
    old = [
        Member(f"d{n % 331:03d}/file{n:06d}", content=chance.randbytes(chance.randrange(300)))
        for n in range(FILES)
    ]
    old.sort(key=lambda each: each.name.split("/"))
    new = []
    for number, each in enumerate(old):
        content = each.content
        if number % 97 == 0:
            content = content[:40] + b"changed" + content[60:]
        if number % 101:
            name = each.name.replace("d001/", "renamed/")
            new.append(Member(name, content=content, mtime=1_800_000_000))
    found = extracted(tmp_path, [layer(tmp_path, tar_of(old))], [layer(tmp_path, tar_of(new))])
    applied(found, tmp_path / "out")
    assert found.delta.stat().st_size < MIB


@pytest.mark.parametrize("count", [NAMES_LIMIT, FILES])
def test_many_names_in_one_folder(tmp_path: Path, count: int) -> None:
    """As many as a walk may hold, and more: then all are told by name."""
    chance = dice(101)
    noise = chance.randbytes(2 * MIB)
    old = [
        Member(f"{n:06d}-{'n' * 45}", content=chance.randbytes(chance.randrange(300)))
        for n in range(count - 1)
    ]
    new = [
        replace(each, content=each.content[:40] + b"changed") if n % 97 == 0 else each
        for n, each in enumerate(old)
        if n % 101
    ]
    large = Member("zz", content=noise)
    changed = Member("zz", content=noise[:MIB] + chance.randbytes(MIB // 2) + noise[MIB:])
    found = extracted(
        tmp_path,
        [layer(tmp_path, tar_of([*old, large]))],
        [layer(tmp_path, tar_of([*new, changed]))],
    )
    applied(found, tmp_path / "out")
    (target,) = found.targets
    assert (found.open().find(target.diff_id)[0].base is None) == (count > NAMES_LIMIT)
    assert found.delta.stat().st_size < 2 * MIB


def test_a_file_of_two_gigabytes(tmp_path: Path) -> None:
    """Changed in some places, and longer: most of it is neither sent nor held in memory."""
    chance = dice(2)
    block = chance.randbytes(MIB)
    trees = {side: tmp_path / side for side in ("old", "new")}
    for side, tree in trees.items():
        tree.mkdir()
        with (tree / "large").open("wb") as file:
            for number in range(LARGE // MIB):
                at = number * 7 % 991
                file.write(number.to_bytes(8) + block[at:] + block[:at])
                if side == "new" and number % 500 == 77:
                    file.write(b"more of it" * 100)
        os.utime(tree / "large", (1_700_000_000, 1_700_000_000))
    sides = [tar_on_disk(tmp_path, tree) for tree in trees.values()]
    found = extracted(tmp_path, [sides[0]], [sides[1]])
    applied(found, tmp_path / "out")
    assert found.delta.stat().st_size < 64 * MIB


def tar_on_disk(folder: Path, tree: Path) -> LayerTar:
    """A layer of a tree, which is written and hashed without being held."""
    path = folder / f"{tree.name}.tar"
    words = ["tar", "-c", "--format=posix", "--numeric-owner", "-f", path, "-C", tree, "large"]
    subprocess.run(list(map(str, words)), check=True)
    with path.open("rb") as file:
        return LayerTar(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", path)

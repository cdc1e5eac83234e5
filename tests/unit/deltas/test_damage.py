"""Damaged deltas and sources: found out, whatever is damaged, and no wrong byte is taken."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gantry.deltas.apply import rebuild
from gantry.deltas.reader import DeltaError
from tests.layers import Made, Member, apply_measured, dice, made, tar_of

PLACES = 150


@pytest.fixture(scope="module", params=["named", "bare", "rows alone"])
def sample(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Made:
    """A delta with all that there is: copied, patched, new and renamed files, two layers."""
    chance = dice(88)
    program = bytearray(chance.randbytes(60_000))
    text = "".join(f"line {n}: {chance.random()}\n" for n in range(3000)).encode()
    old = [
        Member("bin/program", content=bytes(program), mode=0o755),
        Member("etc/text", content=text),
        *(Member(f"lib/{n}", content=chance.randbytes(700)) for n in range(30)),
    ]
    rows = "rows" in request.param
    for at in range(0, 60_000, 30_000 if rows else 3000):
        program[at : at + 8] = chance.randbytes(8)
    new = [
        Member("bin/program", content=bytes(program), mode=0o755, mtime=1_800_000_000),
        Member("etc/text", content=text.replace(b"line 70:" if rows else b"line 70", b"LINE")),
        Member("etc/new", content=b"some words that nobody had\n" * 20),
        *(Member(f"libs/{each.name}", content=each.content) for each in old[2:]),
    ]
    noise = [Member("noise", content=chance.randbytes(2000 if rows else 20_000))]
    folder = tmp_path_factory.mktemp("sample")
    targets = [tar_of(new), tar_of(noise)]
    found = made(folder, [tar_of(old)], targets, bare=request.param == "bare")
    assert not rows or all(layer.row for layer in found.open().index.layers)
    return found


def all_rebuilt(sample: Made) -> list[bytes]:
    return [sample.rebuilt(each.diff_id) for each in sample.targets]


def test_the_sample_is_sound(sample: Made) -> None:
    assert all_rebuilt(sample) == [each.path.read_bytes() for each in sample.targets]


def test_a_changed_byte_anywhere_is_found_out(sample: Made, tmp_path: Path) -> None:
    content = sample.delta.read_bytes()
    chance = dice(4)
    places = [*range(120), *(chance.randrange(len(content)) for _ in range(PLACES))]
    for at in places:
        damaged = bytearray(content)
        damaged[at] ^= 1 << chance.randrange(8)
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        with pytest.raises(DeltaError):
            all_rebuilt(replace(sample, delta=path))


def test_swapped_and_repeated_stretches_are_found_out(sample: Made, tmp_path: Path) -> None:
    content = sample.delta.read_bytes()
    chance = dice(5)
    for _ in range(100):
        begin, end = sorted(chance.sample(range(len(content)), 2))
        to = chance.randrange(len(content) - (end - begin))
        damaged = bytearray(content)
        damaged[to : to + end - begin] = content[begin:end]
        if damaged == content:
            continue
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        with pytest.raises(DeltaError):
            all_rebuilt(replace(sample, delta=path))


def test_a_delta_that_is_cut_or_too_long_is_not_begun(sample: Made, tmp_path: Path) -> None:
    content = sample.delta.read_bytes()
    chance = dice(6)
    path = tmp_path / "cut"
    for length in [*range(150), *(chance.randrange(len(content)) for _ in range(150))]:
        path.write_bytes(content[:length])
        with pytest.raises(DeltaError):
            replace(sample, delta=path).open()
    # Rows alone are an index that reaches to the file's end.
    said = str(len(content)) if sample.open().index.payload else "damaged"
    for more in (b"\0", content[-1:], content):
        path.write_bytes(content + more)
        with pytest.raises(DeltaError, match=said):
            replace(sample, delta=path).open()


def test_a_download_that_was_cut_and_resumed_is_the_delta(sample: Made, tmp_path: Path) -> None:
    content = sample.delta.read_bytes()
    cut = dice(7).randrange(1, len(content))
    path = tmp_path / "resumed"
    path.write_bytes(content[:cut])
    with path.open("ab") as file:
        file.write(content[cut:])
    resumed = replace(sample, delta=path)
    assert all_rebuilt(resumed) == [each.path.read_bytes() for each in sample.targets]


@pytest.mark.parametrize("how", ["byte", "shorter", "longer", "gone", "folder", "link", "fifo"])
def test_a_source_that_is_not_what_it_was(sample: Made, tmp_path: Path, how: str) -> None:
    """Also where it would take for ever (a pipe that nobody writes to)."""
    (key, folder), *_ = sample.folders.items()
    copied = tmp_path / "files"
    shutil.copytree(folder, copied, symlinks=True)
    victim = copied / "bin" / "program"
    content = victim.read_bytes()
    victim.unlink()
    was = (folder / "bin" / "program").stat()
    if how == "byte":
        victim.write_bytes(content[:500] + bytes([content[500] ^ 1]) + content[501:])
    elif how == "shorter":
        victim.write_bytes(content[:-9])
    elif how == "longer":
        victim.write_bytes(content + b"more")
    elif how == "folder":
        victim.mkdir()
    elif how == "link":
        elsewhere = tmp_path / "elsewhere"
        elsewhere.write_bytes(content)
        victim.symlink_to(elsewhere)
    elif how == "fifo":
        os.mkfifo(victim)
    if victim.is_file() and not victim.is_symlink():
        victim.chmod(was.st_mode)
        os.utime(victim, ns=(was.st_mtime_ns,) * 2)
    shutil.copystat(folder / "bin", copied / "bin")
    with pytest.raises(DeltaError):
        replace(sample, folders={key: copied}).rebuilt(sample.targets[0].diff_id)


def test_it_is_said_which_of_the_two_is_not_what_it_was(sample: Made, tmp_path: Path) -> None:
    (key, folder), *_ = sample.folders.items()
    copied = tmp_path / "files"
    shutil.copytree(folder, copied, symlinks=True, copy_function=shutil.copy2)
    victim = copied / "bin" / "program"
    was = victim.stat()
    victim.write_bytes(victim.read_bytes()[::-1])
    os.utime(victim, ns=(was.st_mtime_ns,) * 2)
    first = sample.targets[0].diff_id
    with pytest.raises(DeltaError, match="a source file is not what it was"):
        replace(sample, folders={key: copied}).rebuilt(first)
    content = bytearray(sample.delta.read_bytes())
    content[-1] ^= 1
    (tmp_path / "damaged").write_bytes(content)
    with pytest.raises(DeltaError, match="damaged"):
        replace(sample, delta=tmp_path / "damaged").rebuilt(sample.targets[-1].diff_id)


def test_a_source_that_is_not_given_is_named(sample: Made) -> None:
    (key, *_) = sample.folders
    with pytest.raises(DeltaError, match=key):
        rebuild(sample.open(), sample.targets[0].diff_id, {}, lambda _: None)


def test_the_program_says_what_is_wrong_in_a_line(sample: Made, tmp_path: Path) -> None:
    out = tmp_path / "out"
    target = sample.targets[0]
    assert apply_measured(sample, target.diff_id, out)[:2] == (0, "")
    assert out.read_bytes() == target.path.read_bytes()
    damaged = tmp_path / "damaged"
    content = bytearray(sample.delta.read_bytes())
    content[-1] ^= 255
    damaged.write_bytes(content)
    code, said, _ = apply_measured(replace(sample, delta=damaged), sample.targets[-1].diff_id, out)
    assert code == 1
    assert len(said.splitlines()) == 1
    code, said, _ = apply_measured(sample, "sha256:" + 64 * "0", out)
    assert code == 1
    assert "000000" in said

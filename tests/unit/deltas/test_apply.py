"""The program that a device runs, and what a small change costs."""

import hashlib
import os
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from gantry.deltas.apply import main, rebuild
from gantry.deltas.create import LayerTar, Options, Progress, create
from gantry.deltas.format import Order
from gantry.deltas.inspect import describe
from gantry.deltas.reader import Delta, DeltaError

CONFIG = f"sha256:{'0' * 64}"


def layer_of(folder: Path, tar: Path, order: Order = Order.FOLDERS) -> LayerTar:
    """A folder as a layer's tar: as engines write it, or sorted by whole paths."""
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        names = sorted(path.relative_to(folder) for path in folder.rglob("*"))
        if order is Order.PATHS:
            names.sort(key=str)
        for name in names:
            archive.add(folder / name, str(name), recursive=False, filter=_whole_seconds)
    return LayerTar(f"sha256:{hashlib.sha256(tar.read_bytes()).hexdigest()}", tar)


def _whole_seconds(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime = int(info.mtime)
    return info


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, LayerTar, LayerTar, Path]:
    """A folder of old files, its layer, the layer after a small change, and the delta."""
    old = tmp_path / "old"
    (old / "lib-1.2").mkdir(parents=True)
    for number in range(40):
        path = old / "lib-1.2" / f"module{number}.py"
        path.write_text("".join(f"value_{n} = {n * number}\n" for n in range(400)))
        os.utime(path, (number, 1_700_000_000 + number))
    os.utime(old / "lib-1.2", (0, 1_700_000_000))
    source = layer_of(old, tmp_path / "old.tar")
    new = tmp_path / "new"
    subprocess.run(["cp", "-a", str(old), str(new)], check=True)
    changed = new / "lib-1.2" / "module7.py"
    changed.write_text(changed.read_text().replace("value_9 = 63", "value_9 = 64"))
    os.utime(changed, (0, 1_700_000_099))
    target = layer_of(new, tmp_path / "new.tar")
    delta = tmp_path / "x.gantry-delta"
    create([source], [target], CONFIG, delta)
    return old, source, target, delta


def test_the_program_writes_the_layer(pair: tuple[Path, LayerTar, LayerTar, Path]) -> None:
    folder, source, target, delta = pair
    command = [sys.executable, "-m", "gantry.deltas.apply", str(delta), target.diff_id]
    ran = subprocess.run(
        [*command, "--source", f"{source.diff_id}={folder}"], capture_output=True, check=True
    )
    assert ran.stdout == target.path.read_bytes()
    assert ran.stderr == b""


def test_the_program_says_in_one_line_what_is_wrong(
    pair: tuple[Path, LayerTar, LayerTar, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, source, target, delta = pair
    given = ["--source", f"{source.diff_id}={folder}"]
    assert main([str(delta), target.diff_id]) == 1
    assert f"needs the source layer {source.diff_id}" in capfd.readouterr().err
    assert main([str(delta), source.diff_id, *given]) == 1
    assert "does not hold the layer" in capfd.readouterr().err
    other = folder / "lib-1.2" / "module3.py"
    other.write_text(other.read_text().replace("value_9", "value_8"))
    assert main([str(delta), target.diff_id, *given]) == 1
    error = capfd.readouterr().err
    assert "a source file is not what it was" in error
    assert error.count("\n") == 1
    for arguments in ([], ["x"], ["x", "y", "--source"], ["x", "y", "--source", "z"]):
        assert main(arguments) == 2
        assert "usage" in capfd.readouterr().err


def test_a_changed_line_costs_what_it_is(pair: tuple[Path, LayerTar, LayerTar, Path]) -> None:
    _, source, target, delta = pair
    assert delta.stat().st_size < 350
    found = describe(delta)
    assert (found.size, found.config, found.sources) == (
        delta.stat().st_size,
        CONFIG,
        (source.diff_id,),
    )
    (layer,) = found.layers
    assert (layer.diff_id, layer.size) == (target.diff_id, target.path.stat().st_size)
    assert abs(sum(layer.parts.values()) - layer.encoded) <= 2
    assert layer.files == ()


def test_files_are_described_where_the_sources_are(
    pair: tuple[Path, LayerTar, LayerTar, Path],
) -> None:
    folder, source, _, delta = pair
    (layer,) = describe(delta, {source.diff_id: folder}).layers
    files = {each.path: each for each in layer.files}
    assert len(files) == 40
    changed = files.pop("lib-1.2/module7.py")
    assert (changed.how, changed.source) == ("patched", "lib-1.2/module7.py")
    assert 0 < changed.encoded < 120
    assert {(each.how, each.encoded) for each in files.values()} == {("copied", 0)}


def test_the_same_layers_give_the_same_delta(
    pair: tuple[Path, LayerTar, LayerTar, Path], tmp_path: Path
) -> None:
    _, source, target, delta = pair
    again = tmp_path / "again"
    create([source], [target], CONFIG, again)
    assert again.read_bytes() == delta.read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]


def test_a_layer_that_is_a_source_is_rebuilt_too(
    pair: tuple[Path, LayerTar, LayerTar, Path], tmp_path: Path
) -> None:
    folder, source, _, _ = pair
    path = tmp_path / "same"
    create([source], [source], CONFIG, path)
    written = bytearray()
    rebuild(Delta.open(path), source.diff_id, {source.diff_id: folder}, written.extend)
    assert written == source.path.read_bytes()
    assert path.stat().st_size < 260


def test_what_write_raises_comes_out_as_it_is(
    pair: tuple[Path, LayerTar, LayerTar, Path],
) -> None:
    folder, source, target, delta = pair

    def full(_: bytes) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        rebuild(Delta.open(delta), target.diff_id, {source.diff_id: folder}, full)


def test_a_cut_delta_is_not_begun(pair: tuple[Path, LayerTar, LayerTar, Path]) -> None:
    delta = pair[3]
    content = delta.read_bytes()
    for part in (content[:-1], content + b"x", content[:30], b""):
        delta.write_bytes(part)
        with pytest.raises(DeltaError):
            Delta.open(delta)


@pytest.mark.parametrize("order", list(Order))
def test_archives_in_both_orders_cost_no_names(order: Order, tmp_path: Path) -> None:
    old = tmp_path / "old"
    for folder in ("a", "a-b", "a.d", "b"):
        (old / folder / "in").mkdir(parents=True)
        for number in range(30):
            path = old / folder / "in" / f"a-long-name-of-a-file-{number}"
            path.write_text(f"{folder} {number}")
            os.utime(path, (0, 1_700_000_000))
        for path in (old / folder / "in", old / folder):
            os.utime(path, (0, 1_700_000_000))
    source = layer_of(old, tmp_path / "old.tar", order)
    path = tmp_path / "delta"
    create([source], [source], CONFIG, path)
    delta = Delta.open(path)
    assert delta.index.layers[0].order is order
    assert path.stat().st_size < 260
    written = bytearray()
    rebuild(delta, source.diff_id, {source.diff_id: old}, written.extend)
    assert written == source.path.read_bytes()


def test_a_layer_of_other_processes_and_windows_comes_back(tmp_path: Path) -> None:
    """Enough work for the pool, in so little memory that files are taken in windows."""
    chance = random.Random(5)  # noqa: S311 - the same bytes each time
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    for number in range(3):
        content = bytearray(chance.randbytes(400_000))
        (old / f"program{number}").write_bytes(content)
        for at in range(0, len(content), 5000):
            content[at : at + 4] = chance.randbytes(4)
        (new / f"program{number}").write_bytes(b"moved" + content)
    for path in (*old.iterdir(), *new.iterdir()):
        os.utime(path, (0, 1_700_000_000))
    source, target = layer_of(old, tmp_path / "old.tar"), layer_of(new, tmp_path / "new.tar")
    path = tmp_path / "delta"
    told: list[Progress] = []
    summary = create(
        [source], [target], CONFIG, path, Options(memory=8 * 1024**2, workers=2), told.append
    )
    written = bytearray()
    rebuild(Delta.open(path), target.diff_id, {source.diff_id: old}, written.extend)
    assert written == target.path.read_bytes()
    assert summary.size == path.stat().st_size < 20_000
    assert [each.how for each in summary.layers[0].files] == ["patched"] * 3
    assert told[-1].done == told[-1].total == 1_200_015

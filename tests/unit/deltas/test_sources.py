"""Source files: the walk's orders, and ways that a delta may not go."""

import os
from pathlib import Path

import pytest

from gantry.deltas.format import NAMES_LIMIT, NAMES_SIZE_LIMIT, DeltaError, Order
from gantry.deltas.sources import SourceLayer, check_path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "layer"
    for folder in ("a/b", "a-b", "z"):
        (root / folder).mkdir(parents=True)
    for name in ("a/b/file", "a-b/x", "a.txt", "z/last"):
        (root / name).write_text(name)
    (root / "link").symlink_to("a")
    (root / "out").symlink_to("/etc/hostname")
    os.mkfifo(root / "pipe")
    return root


def walked(root: Path, order: Order) -> list[bytes]:
    layer = SourceLayer(root)
    found: list[bytes] = []
    while len(found) < len(list(root.rglob("*"))):
        found.append(layer.next(0, order).path)
    with pytest.raises(DeltaError, match="fewer files"):
        layer.next(0, order)
    layer.close()
    return found


def test_a_walk_is_in_the_order_of_folders_or_of_paths(root: Path) -> None:
    names = [os.fsencode(path.relative_to(root)) for path in root.rglob("*")]
    assert walked(root, Order.PATHS) == sorted(names)
    assert walked(root, Order.FOLDERS) == sorted(names, key=lambda name: name.split(b"/"))
    assert walked(root, Order.FOLDERS) != walked(root, Order.PATHS)


@pytest.mark.parametrize("order", Order)
def test_a_walk_holds_so_many_names_and_no_more(tmp_path: Path, order: Order) -> None:
    """Those of a folder and of all above it; those of folders count twice."""
    inner = tmp_path / "layer" / "a" / "b"
    inner.mkdir(parents=True)
    names = NAMES_LIMIT - 2 * len(("a", "b"))
    for number in range(names):
        os.mknod(inner / str(number))
    layer = SourceLayer(tmp_path / "layer")
    assert layer.next(names + 1, order).path == b"a/b/9999"
    layer.close()
    os.mknod(inner / "z")
    layer = SourceLayer(tmp_path / "layer")
    assert layer.next(1, order).path == b"a/b"
    with pytest.raises(DeltaError, match="source folder a/b has too many names to walk through"):
        layer.next(0, order)
    layer.close()


@pytest.mark.parametrize("order", Order)
def test_a_walk_holds_so_many_bytes_of_names_and_no_more(tmp_path: Path, order: Order) -> None:
    (tmp_path / "folder").mkdir()
    count, rest = divmod(NAMES_SIZE_LIMIT - 2 * len("folder"), 255)
    for number in range(count):
        os.mknod(tmp_path / "folder" / f"{number:0255}")
    os.mknod(tmp_path / "folder" / ("z" * rest))
    layer = SourceLayer(tmp_path)
    assert layer.next(count + 1, order).path.startswith(b"folder/zz")
    layer.close()
    (tmp_path / "folder" / ("z" * rest)).rename(tmp_path / "folder" / ("z" * (rest + 1)))
    layer = SourceLayer(tmp_path)
    assert layer.next(0, order).path == b"folder"
    with pytest.raises(DeltaError, match="too many names"):
        layer.next(0, order)
    layer.close()


def test_a_walk_passes_over_steps_and_closes_what_it_opened(root: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    layer = SourceLayer(root)
    assert layer.next(2, Order.FOLDERS).path == b"a/b/file"
    place = layer.next(2, Order.FOLDERS)
    assert place.path == b"a.txt"
    assert place.facts.size == 5
    source = layer.place(b"a/b/file").open()
    assert source.some(0, 3, 3) == b"a/b"
    source.close()
    layer.close()

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    "path",
    [b"", b"/etc/passwd", b"../x", b"a/../../x", b"a//b", b"./a", b"a/", b"a\0b", b"a" * 4097],
)
def test_paths_that_are_refused(path: bytes) -> None:
    with pytest.raises(DeltaError, match="path"):
        check_path(path)


def test_paths_may_not_be_too_deep() -> None:
    with pytest.raises(DeltaError, match="too long"):
        check_path(b"/".join([b"a"] * 257))


@pytest.mark.parametrize("path", [b"link/b/file", b"out", b"pipe", b"a", b"missing", b"a.txt/x"])
def test_no_link_is_followed_and_only_files_are_opened(root: Path, path: bytes) -> None:
    layer = SourceLayer(root)
    with pytest.raises(DeltaError, match="source"):
        layer.place(path).open()
    layer.close()


def test_a_file_that_is_shorter_is_told(root: Path) -> None:
    layer = SourceLayer(root)
    source = layer.place(b"z/last").open()
    assert b"".join(source.pieces(2, 4)) == source.some(2, 100, 4) == b"last"
    with pytest.raises(DeltaError, match="shorter"):
        list(source.pieces(2, 5))
    for nowhere in (-1, 7, 1 << 63, 1 << 70):
        with pytest.raises(DeltaError, match="shorter"):
            source.some(nowhere, 1, 1)
    source.close()
    layer.close()

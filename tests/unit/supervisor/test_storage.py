"""Where the engine keeps layers: its own files, as they were found on real engines, and hostile."""

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gantry.supervisor import bolt
from gantry.supervisor.storage import (
    CONTENT,
    SNAPSHOTTER,
    KnownBlob,
    Overlay2,
    StorageError,
    chain_ids,
    layer_folders,
    open_storage,
)
from gantry.supervisor.tarsplit import SplitTar

HERE = Path(__file__).parent
# Snapshots of an image of nine layers; the first's chainID, and the last's.
METADATA = HERE / "snapshots.db.gz"
FIRST = "sha256:bfefd6e20e0f843f4ef8d8ff9c49e5070ed53463d8f1ff2a01cb71f076bb5edb"
SECOND = "sha256:7da6e66c9ab7ed818a3595b4fa6120d5cdf44663ca4ab16d49a047498d99253d"


def digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_a_chain_is_of_all_that_is_below() -> None:
    one, two = digest("one"), digest("two")
    assert chain_ids([]) == ()
    assert chain_ids([one, two]) == (one, digest(f"{one} {two}"))


class Layerdb:
    """The files of overlay2 as an engine writes them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.image = root / "image" / "overlay2"

    def add(self, chain: str, cache: str, files: dict[str, bytes] | None = None) -> Path:
        layer = self.image / "layerdb" / "sha256" / chain.partition(":")[2]
        layer.mkdir(parents=True)
        (layer / "cache-id").write_text(cache)
        folder = self.root / "overlay2" / cache / "diff"
        folder.mkdir(parents=True)
        for name, content in (files or {}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return layer

    def name(self, diff_id: str, *blobs: str, back: bool = True) -> None:
        tables = self.image / "distribution"
        for folder in ("v2metadata-by-diffid", "diffid-by-digest"):
            (tables / folder / "sha256").mkdir(parents=True, exist_ok=True)
        listed = [{"Digest": each, "SourceRepository": "r", "HMAC": ""} for each in blobs]
        path = tables / "v2metadata-by-diffid" / "sha256" / diff_id.partition(":")[2]
        path.write_text(json.dumps(listed))
        for each in blobs if back else ():
            back_path = tables / "diffid-by-digest" / "sha256" / each.partition(":")[2]
            back_path.write_text(diff_id)


def test_overlay2_has_a_folder_of_each_layer_and_names_of_some(tmp_path: Path) -> None:
    layerdb, one, two = Layerdb(tmp_path), digest("one"), digest("two")
    chains = chain_ids([one, two])
    for number, chain in enumerate(chains):
        layerdb.add(chain, f"cache{number}")
    blob, other = digest("blob"), digest("other")
    layerdb.name(one, other, blob)
    storage = open_storage(tmp_path, "overlay2")
    assert storage.folder(chains[1]) == tmp_path / "overlay2/cache1/diff"
    assert storage.folder(two) is None
    assert storage.known(chains[0], one, blob) == KnownBlob(blob)  # the registry's, if it is known
    assert storage.known(chains[0], one, digest("new")) == KnownBlob(other)
    assert storage.known(chains[1], two, blob) is None
    layerdb.name(two, blob, back=False)  # of another layer: a table that was not written to its end
    assert storage.known(chains[1], two, blob) is None
    assert storage.known(digest("gone"), one, blob) is None
    found = layer_folders(storage, [[one, two], [one, digest("gone")]])
    assert found == {
        one: tmp_path / "overlay2/cache0/diff",
        two: tmp_path / "overlay2/cache1/diff",
    }


@pytest.mark.parametrize("cache", ["", "../../etc", "a/b", "x" * 200, "\xff"])
def test_a_folder_is_never_elsewhere(tmp_path: Path, cache: str) -> None:
    layer = Layerdb(tmp_path).add(digest("one"), "good")
    (layer / "cache-id").write_text(cache)
    (tmp_path / "etc" / "diff").mkdir(parents=True)
    assert Overlay2(tmp_path).folder(digest("one")) is None
    assert Overlay2(tmp_path).folder("sha256:../../../../etc") is None


@pytest.mark.parametrize(
    ("driver", "message"),
    [
        ("vfs", "driver is vfs, not overlay2"),
        ("", "driver is unknown, not overlay2"),
        ("overlay2", "layerdb is missing"),
        ("overlayfs", r"metadata\.db is missing"),
    ],
)
def test_other_storage_is_refused(tmp_path: Path, driver: str, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        open_storage(tmp_path, driver)


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    """containerd's folder with what a real one has written of its snapshots."""
    for name in (f"{SNAPSHOTTER}/snapshots/1/fs", f"{SNAPSHOTTER}/snapshots/2/fs", CONTENT):
        (tmp_path / name).mkdir(parents=True)
    database = tmp_path / SNAPSHOTTER / "metadata.db"
    database.write_bytes(gzip.decompress(METADATA.read_bytes()))
    return tmp_path


def test_containerds_snapshots_are_found_by_chain(snapshots: Path) -> None:
    storage = open_storage(snapshots, "overlayfs")
    first, second = chain_ids([FIRST, SECOND])
    assert storage.folder(first) == snapshots / SNAPSHOTTER / "snapshots/1/fs"
    assert storage.folder(second) == snapshots / SNAPSHOTTER / "snapshots/2/fs"
    assert storage.folder(digest("other")) is None
    blobs = snapshots / CONTENT / "blobs/sha256"
    blobs.mkdir(parents=True)
    (blobs / SECOND.partition(":")[2]).write_bytes(b"1234")
    assert storage.known(second, SECOND, digest("packed")) == KnownBlob(SECOND, 4)
    assert storage.known(first, FIRST, digest("packed")) is None
    assert storage.tar(first) is None


def test_a_broken_database_finds_nothing_and_ends(snapshots: Path) -> None:
    """Any page may be written anew while it is read."""
    path = snapshots / SNAPSHOTTER / "metadata.db"
    sound = path.read_bytes()
    first, _ = chain_ids([FIRST, SECOND])
    storage = open_storage(snapshots, "overlayfs")
    for offset in range(0, len(sound), 97):
        path.write_bytes(sound[:offset] + b"\xff" * 8 + sound[offset + 8 :])
        assert storage.folder(first) in (None, snapshots / SNAPSHOTTER / "snapshots/1/fs")
    for length in (0, 1, 100, 4096, len(sound) // 2):
        path.write_bytes(sound[:length])
        with pytest.raises(bolt.BoltError, match="cannot be understood"):
            bolt.find(path, (b"v1", b"snapshots"), first.encode(), b"id")


def split(entries: list[dict[str, object]]) -> bytes:
    return gzip.compress(b"".join(json.dumps(each).encode() + b"\n" for each in entries))


def stretch(content: bytes) -> dict[str, object]:
    return {"type": 2, "payload": base64.b64encode(content).decode(), "position": 0}


def test_a_tar_is_put_together_as_it_was(tmp_path: Path) -> None:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, text in (("a/one", b"1" * 700), (b"\xff".decode("latin-1"), b"2")):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    whole = content.getvalue()
    layerdb = Layerdb(tmp_path)
    layer = layerdb.add(digest("one"), "c", {"a/one": b"1" * 700, "ÿ": b"2"})
    raw = base64.b64encode("ÿ".encode()).decode()
    entries = [
        stretch(whole[:512]),
        {"type": 1, "name": "a/one", "size": 700, "payload": "AAAAAAAAAAA="},
        stretch(whole[1212:2048]),
        {"type": 1, "name_raw": raw, "size": 1, "payload": "AAAAAAAAAAA="},
        stretch(whole[2049:]),
    ]
    (layer / "tar-split.json.gz").write_bytes(split(entries))
    tar = Overlay2(tmp_path).tar(digest("one"))
    assert tar is not None
    assert b"".join(tar.pieces()) == whole
    assert tar.size() == len(whole)


def _linked(folder: Path) -> None:
    (folder / "way").symlink_to("/etc")


def _nothing(_folder: Path) -> None:
    return


@pytest.mark.parametrize(
    ("entry", "prepare"),
    [
        ({"type": 1, "name": "../../../etc/passwd", "size": 10}, _nothing),
        ({"type": 1, "name": "way/passwd", "size": 10}, _linked),
        ({"type": 1, "name": "way", "size": 10}, _linked),
        ({"type": 1, "name": "", "size": 10}, _nothing),
        ({"type": 1, "name": "gone", "size": 10}, _nothing),
        ({"type": 1, "name": "short", "size": 10}, lambda f: (f / "short").write_bytes(b"1")),
        ({"type": 1, "name": "folder", "size": 10}, lambda f: (f / "folder").mkdir()),
        ({"type": 1, "name": "short", "size": -1}, _nothing),
        ({"type": 3}, _nothing),
        ({"type": 2, "payload": "?"}, _nothing),
        ({}, _nothing),
    ],
)
def test_a_list_that_lies_gives_an_error(
    tmp_path: Path, entry: dict[str, object], prepare: Callable[[Path], object]
) -> None:
    folder = tmp_path / "diff"
    folder.mkdir()
    prepare(folder)
    (tmp_path / "list.gz").write_bytes(split([entry]))
    with pytest.raises(OSError, match=r"."):
        list(SplitTar(tmp_path / "list.gz", folder).pieces())


def test_a_list_that_is_cut_off_gives_an_error(tmp_path: Path) -> None:
    (tmp_path / "list.gz").write_bytes(split([stretch(b"1" * 1000)])[:-12])
    with pytest.raises(OSError, match="cannot be understood"):
        list(SplitTar(tmp_path / "list.gz", tmp_path).pieces())

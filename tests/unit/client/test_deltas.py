"""Images in archives, and deltas between them: made, looked at, applied."""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from gantry.client.deltas import config_path, files_path
from gantry.client.errors import ClientError, NotFoundError, UsageError
from gantry.client.image_files import unpack
from gantry.deltas.create import LayerTar, Options
from gantry.deltas.create import create as make
from gantry.deltas.names import names_of_pair
from tests.layers import ROOT, Member, dice, digest, tar_of

needs_root = pytest.mark.skipif(not ROOT, reason="files with their owners")


def archive(path: Path, documents: Mapping[str, bytes]) -> Path:
    """A tar of these files."""
    with tarfile.open(path, "w") as tar:
        for name, content in documents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def config_of(layers: Sequence[bytes], architecture: str = "arm64") -> bytes:
    rootfs = {"type": "layers", "diff_ids": [digest(each) for each in layers]}
    return json.dumps({"architecture": architecture, "os": "linux", "rootfs": rootfs}).encode()


def docker_archive(path: Path, layers: Sequence[bytes]) -> Path:
    """As `docker save` writes it."""
    config = config_of(layers)
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": ["a:b"], "Layers": names}]
    files = {"config.json": config, "manifest.json": json.dumps(manifest).encode()}
    return archive(path, {**files, **dict(zip(names, layers, strict=True))})


def oci_archive(path: Path, images: Mapping[str, Sequence[bytes]], packed: bool = True) -> Path:
    """An OCI layout; `images` by architecture."""
    blobs: dict[str, bytes] = {}

    def blob(content: bytes) -> str:
        name = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{name}"] = content
        return f"sha256:{name}"

    manifests = []
    for architecture, layers in images.items():
        stored = [gzip.compress(each) if packed else each for each in layers]
        manifest = {
            "config": {"digest": blob(config_of(layers, architecture))},
            "layers": [{"digest": blob(each)} for each in stored],
        }
        platform = {"os": "linux", "architecture": architecture}
        named = {"digest": blob(json.dumps(manifest).encode()), "platform": platform}
        manifests.append(named)
    unknown = {"digest": blob(b"{}"), "platform": {"os": "unknown", "architecture": "unknown"}}
    index = {"schemaVersion": 2, "manifests": [*manifests, unknown]}
    return archive(path, {"index.json": json.dumps(index).encode(), **blobs})


def quiet(_: str) -> None:
    pass


LAYERS = [tar_of([Member("a", content=b"one")]), tar_of([Member("b", content=b"two" * 500)])]


@pytest.mark.parametrize("kind", ["docker", "oci", "oci packed", "gzip", "several"])
def test_archives_of_all_kinds_give_their_layers(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image.tar"
    if kind == "docker":
        docker_archive(path, LAYERS)
    elif kind == "gzip":
        path.write_bytes(gzip.compress(docker_archive(path, LAYERS).read_bytes()))
    elif kind == "several":
        oci_archive(path, {"amd64": LAYERS[:1], "arm64": LAYERS})
    else:
        oci_archive(path, {"arm64": LAYERS}, packed=kind.endswith("packed"))
    found = unpack(str(path), tmp_path / "out", "linux/arm64", quiet)
    assert found.diff_ids == tuple(digest(each) for each in LAYERS)
    assert [layer.read_bytes() for _, layer in found.layers] == LAYERS
    assert found.config == config_of(LAYERS)


def test_a_layer_packed_with_zstd(tmp_path: Path) -> None:
    layer = LAYERS[1]
    packed = subprocess.run(["zstd", "-c"], input=layer, capture_output=True, check=True).stdout
    manifest = [{"Config": "c", "Layers": ["l"]}]
    files = {"c": config_of([layer]), "manifest.json": json.dumps(manifest).encode(), "l": packed}
    found = unpack(str(archive(tmp_path / "i.tar", files)), tmp_path / "out", None, quiet)
    assert found.layers[0][1].read_bytes() == layer
    files["l"] = packed[:-9]
    with pytest.raises(ClientError, match="damaged"):
        unpack(str(archive(tmp_path / "d.tar", files)), tmp_path / "other", None, quiet)


def test_of_several_platforms_one_is_to_be_chosen(tmp_path: Path) -> None:
    path = oci_archive(tmp_path / "image.tar", {"amd64": LAYERS, "arm64": LAYERS})
    with pytest.raises(UsageError, match="linux/amd64, linux/arm64"):
        unpack(str(path), tmp_path / "out", None, quiet)
    with pytest.raises(UsageError, match="none that fits"):
        unpack(str(path), tmp_path / "out", "linux/riscv64", quiet)


def test_what_is_no_image_is_said(tmp_path: Path) -> None:
    def refused(name: str, words: str, kind: type[ClientError] = ClientError) -> None:
        with pytest.raises(kind, match=words):
            unpack(name, tmp_path / "out", None, quiet)

    refused(str(tmp_path), "is a folder", UsageError)
    refused(str(tmp_path / "missing.tar"), "there is no file", NotFoundError)
    (tmp_path / "text").write_text("no tar\n" * 100)
    refused(str(tmp_path / "text"), "no archive of an image")
    refused(str(archive(tmp_path / "empty.tar", {})), "neither manifest.json")
    manifest = json.dumps([{"Config": "c", "Layers": ["gone"]}]).encode()
    files = {"c": config_of(LAYERS[:1]), "manifest.json": manifest}
    refused(str(archive(tmp_path / "part.tar", files)), "gone is missing")
    other = {**files, "gone": b"another layer"}
    refused(str(archive(tmp_path / "other.tar", other)), "is damaged")
    refused(str(archive(tmp_path / "json.tar", {"manifest.json": b"{"})), "no JSON")
    both = json.dumps([{}, {}]).encode()
    refused(str(archive(tmp_path / "two.tar", {"manifest.json": both})), "several images")


def gantry(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    """The command itself."""
    command = [sys.executable, "-m", "gantry.cli.main", "delta", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path]:
    """Two images with a base in common."""
    chance = dice(12)
    base = tar_of([Member("base", content=chance.randbytes(50_000))])
    content = chance.randbytes(80_000)
    old = tar_of([Member("app/data", content=content), Member("app/gone", content=b"x" * 99)])
    changed = content[:40_000] + b"changed" + content[40_100:]
    new = tar_of(
        [
            Member("app/data", content=changed, mtime=1_800_000_000),
            Member("app/new", content=chance.randbytes(700)),
            Member("app/.wh.gone"),
        ]
    )
    return (
        docker_archive(tmp_path / "old.tar", [base, old]),
        oci_archive(tmp_path / "new.tar", {"arm64": [base, new, tar_of([])]}),
    )


@needs_root
def test_the_commands_make_show_and_apply(images: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = images
    delta = tmp_path / "app.gantry-delta"
    done = gantry("create", old, new, "-o", delta)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(delta)
    assert "2 of 3 layers are new" in done.stderr
    assert delta.stat().st_size < 2000

    told = json.loads(gantry("inspect", delta, "--json").stdout)
    assert told["size"] == delta.stat().st_size
    files = {each["path"]: each for each in told["layers"][0]["files"]}
    assert files["app/data"]["how"] == "patched"
    assert files["app/new"]["how"] == "new"
    shown = gantry("inspect", delta)
    assert "app/new" in shown.stdout
    assert "1 patched" in shown.stderr

    out = tmp_path / "rebuilt.tar"
    done = gantry("apply", delta, "--source", old, "-o", out, "--tag", "app:2")
    assert done.returncode == 0, done.stderr
    wanted = unpack(str(new), tmp_path / "wanted", None, quiet)
    found = unpack(str(out), tmp_path / "found", None, quiet)
    assert found.config == wanted.config
    assert done.stdout.strip() == wanted.digest
    assert found.diff_ids == wanted.diff_ids
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert not left


@needs_root
def test_the_delta_itself_tells_of_its_files(images: tuple[Path, Path], tmp_path: Path) -> None:
    """Also one that devices download: with the names of what it is for."""
    old, new = images
    delta = tmp_path / "app.gantry-delta"
    assert gantry("create", old, new, "-o", delta).returncode == 0
    left = json.loads(gantry("inspect", delta, "--json").stdout)
    files_path(delta).unlink()
    assert "--source" in gantry("inspect", delta).stderr
    told = json.loads(gantry("inspect", delta, "--source", old, "--json").stdout)
    assert told["layers"][0]["files"] == left["layers"][0]["files"]
    assert {each["how"] for each in told["layers"][0]["files"]} == {"patched", "new"}
    assert all(each["encoded"] > 0 for each in told["layers"][0]["files"])

    source, target = (unpack(str(e), tmp_path / e.stem, None, quiet) for e in (old, new))
    names = names_of_pair([source.diff_ids], target.digest, target.diff_ids)
    tars = dict((*source.layers, *target.layers))
    bare = tmp_path / "bare.gantry-delta"
    sides = ([LayerTar(key, tars[key]) for key in row] for row in (names.sources, names.layers))
    make(*sides, target.digest, bare, Options(bare=True))
    refused = gantry("inspect", bare)
    assert refused.returncode == 2
    assert "holds no names" in refused.stderr
    named = ("--source", old, "--config", config_path(delta))
    shown = json.loads(gantry("inspect", bare, *named, "--json").stdout)
    assert shown["layers"] == told["layers"]
    assert shown["size"] < told["size"]
    out = tmp_path / "rebuilt.tar"
    done = gantry("apply", bare, *named, "-o", out)
    assert done.stdout.strip() == target.digest, done.stderr
    wrong = gantry("apply", bare, "--source", new, *named[2:], "-o", out)
    assert "for other images" in wrong.stderr


@needs_root
def test_what_cannot_be_applied_is_said(images: tuple[Path, Path], tmp_path: Path) -> None:
    old, new = images
    delta, out = tmp_path / "app.gantry-delta", tmp_path / "out.tar"
    assert gantry("create", old, new, "-o", delta).returncode == 0

    def refused(words: str, code: int, *arguments: str | Path) -> None:
        done = gantry("apply", *arguments)
        assert done.returncode == code
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not out.exists()

    other = docker_archive(tmp_path / "other.tar", LAYERS)
    refused("which none of the images given has", 1, delta, "-s", other, "-o", out)
    refused("either --output FILE or --load", 2, delta, "-s", old)
    refused("there is no file", 3, tmp_path / "missing", "-s", old, "-o", out)
    refused("this is no delta", 1, old, "-s", old, "-o", out)
    config = config_path(delta)
    content = config.read_bytes()
    config.write_bytes(content + b" ")
    refused("and the delta is for", 1, delta, "-s", old, "-o", out)
    config.unlink()
    refused("--config", 3, delta, "-s", old, "-o", out)
    config.write_bytes(content)
    damaged = bytearray(delta.read_bytes())
    damaged[-1] ^= 1
    delta.write_bytes(damaged)
    refused(str(delta), 1, delta, "-s", old, "-o", out)


def test_images_that_are_the_same_need_nothing(images: tuple[Path, Path], tmp_path: Path) -> None:
    old, _ = images
    delta = tmp_path / "none.gantry-delta"
    done = gantry("create", old, old, "-o", delta)
    assert done.returncode == 0, done.stderr
    assert "nothing differs" in done.stderr
    assert "no layers" in gantry("inspect", delta).stderr


def test_a_place_that_is_not_there_is_said(images: tuple[Path, Path], tmp_path: Path) -> None:
    done = gantry("create", *images, "-o", tmp_path / "missing" / "a.gantry-delta")
    assert done.returncode == 2
    assert "is no folder" in done.stderr

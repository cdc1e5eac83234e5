"""Images as files: from the engine here, or from an archive, to configuration and layers' tars.

An archive is what `docker save` writes (docker-archive, with manifest.json: the image specification
1.2 of Docker), or an OCI layout in a tar (index.json, https://github.com/opencontainers/image-spec).
Layers may be packed with gzip or zstd; each must have the diffID that the configuration gives it.
"""

import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gantry.client.errors import ClientError, NotFoundError, UnreachableError, UsageError

Progress = Callable[[str], None]

_DOCUMENT_LIMIT = 4 * 1024**2
_PIECE = 1024**2
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_GZIP_WINDOW = 31
_MANIFEST_LISTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """An image that is unpacked: `config` as it is stored, `layers` by diffID, lowest first."""

    name: str
    config: bytes
    layers: tuple[tuple[str, Path], ...]

    @property
    def digest(self) -> str:
        """The configuration's, which Docker calls the image's id."""
        return _digest(self.config)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(diff_id for diff_id, _ in self.layers)


def unpack(name: str, folder: Path, platform: str | None, say: Progress) -> ImageFiles:
    """The image in the archive of this name, or of this name in the engine.

    `platform` (`linux/arm64`) chooses where an archive has several. Layers that `folder` has
    already are not written again: several images may share one.

    Raises:
        ClientError: one of its kinds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = Path(name)
    if path.is_dir():
        raise UsageError(f"{name} is a folder: give a tar file, or an image's name")
    if path.is_file():
        return _unpack(name, path, folder, platform)
    if path.suffix in (".tar", ".tgz", ".gz") or name.startswith(("/", "./", "../")):
        raise NotFoundError(f"there is no file {name}")
    say(f"{name}: from the engine")
    saved = folder / "saved.tar"
    try:
        _save(name, saved)
        return _unpack(name, saved, folder, platform)
    finally:
        saved.unlink(missing_ok=True)


def _save(name: str, to: Path) -> None:
    import docker
    from docker.errors import DockerException, ImageNotFound

    try:
        with closing(docker.from_env(timeout=900)) as client, to.open("wb") as out:
            for piece in client.images.get(name).save():
                out.write(piece)
    except ImageNotFound:
        raise NotFoundError(
            f"{name!r} is neither a file here nor an image of the engine: `docker image ls`"
        ) from None
    except DockerException as error:
        raise UnreachableError(
            f"{name!r} is no file here, and no engine answers ({error}): `make setup` starts it"
        ) from error
    except OSError as error:
        raise ClientError(f"{to} cannot be written: {error.strerror or error}") from error


def _unpack(name: str, path: Path, folder: Path, platform: str | None) -> ImageFiles:
    try:
        with tarfile.open(path, "r:*") as tar:
            return _Archive(name, tar).image(folder, platform)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ClientError(f"{name} is no archive of an image: {error}") from error
    except OSError as error:
        raise ClientError(f"{name} cannot be unpacked: {error.strerror or error}") from error


class _Archive:
    """A tar with an image in it."""

    def __init__(self, name: str, tar: tarfile.TarFile) -> None:
        self._name, self._tar = name, tar
        self._members = {each.name.removeprefix("./"): each for each in tar.getmembers()}

    def image(self, folder: Path, platform: str | None) -> ImageFiles:
        """The image of this archive, its layers written to `folder`."""
        config_name, layers = self._parts(platform)
        config = self._document(config_name)
        diff_ids = self._diff_ids(config)
        if len(diff_ids) != len(layers):
            raise ClientError(
                f"{self._name}: {len(layers)} layers, and the configuration has {len(diff_ids)}"
            )
        found = [
            (diff_id, self._layer(layer, diff_id, folder))
            for diff_id, layer in zip(diff_ids, layers, strict=True)
        ]
        return ImageFiles(self._name, config, tuple(found))

    def _parts(self, platform: str | None) -> tuple[str, list[str]]:
        if "manifest.json" in self._members:
            images = self._json("manifest.json")
            if not isinstance(images, list) or len(images) != 1:
                raise ClientError(f"{self._name} holds several images, where one is expected")
            return self._of_manifest(lambda: (images[0]["Config"], list(images[0]["Layers"])))
        if "index.json" in self._members:
            manifest = self._json(self._manifest(self._json("index.json"), platform))
            return self._of_manifest(
                lambda: (
                    _blob(manifest["config"]["digest"]),
                    [_blob(each["digest"]) for each in manifest["layers"]],
                )
            )
        raise ClientError(
            f"{self._name} is no archive of an image: it has neither manifest.json (docker save) "
            "nor index.json (OCI)"
        )

    def _of_manifest(self, read: Callable[[], tuple[str, list[str]]]) -> tuple[str, list[str]]:
        try:
            return read()
        except (KeyError, TypeError, AttributeError) as error:
            raise self._unspecified("its manifest", error) from error

    def _manifest(self, index: Any, platform: str | None, depth: int = 0) -> str:
        """The name of the one manifest that is meant; attestations are none."""
        named: dict[str, Any] = {}
        try:
            for each in index["manifests"]:
                told = each.get("platform") or {}
                words = (told.get("os"), told.get("architecture"), told.get("variant"))
                named["/".join(word for word in words if word)] = each
        except (KeyError, TypeError, AttributeError) as error:
            raise self._unspecified("index.json", error) from error
        named.pop("unknown/unknown", None)
        if platform and len(named) > 1:
            named = {key: each for key, each in named.items() if key.startswith(platform)}
        if len(named) != 1:
            there = ", ".join(sorted(filter(None, named))) or "none that fits"
            raise UsageError(f"{self._name}: choose a platform with --platform, there is {there}")
        (chosen,) = named.values()
        blob = _blob(str(chosen["digest"]))
        if chosen.get("mediaType") in _MANIFEST_LISTS and depth < 3:
            return self._manifest(self._json(blob), platform, depth + 1)
        return blob

    def _unspecified(self, what: str, error: Exception) -> ClientError:
        return ClientError(f"{self._name}: {what} is not as specified: {error!r}")

    def _diff_ids(self, config: bytes) -> list[str]:
        try:
            found = [str(each) for each in json.loads(config)["rootfs"]["diff_ids"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ClientError(f"{self._name}: no configuration of an image: {error!r}") from error
        if not all(each.startswith("sha256:") and len(each) == 71 for each in found):
            raise ClientError(f"{self._name}: its configuration has diffIDs that are no SHA-256")
        return found

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._document(name))
        except ValueError as error:
            raise ClientError(f"{self._name}: {name} is no JSON: {error}") from error

    def _document(self, name: str) -> bytes:
        file = self._open(name)
        content = file.read(_DOCUMENT_LIMIT + 1)
        if len(content) > _DOCUMENT_LIMIT:
            raise ClientError(f"{self._name}: {name} has more than {_DOCUMENT_LIMIT} bytes")
        return content

    def _open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        # Older engines save a layer that two images share as a symbolic link: tarfile follows it.
        file = self._tar.extractfile(member) if member is not None else None
        if file is None:
            raise ClientError(f"{self._name} is not whole: {name} is missing")
        return file

    def _layer(self, name: str, diff_id: str, folder: Path) -> Path:
        path = folder / f"{diff_id.removeprefix('sha256:')}.tar"
        if path.exists():
            return path
        partial = path.with_suffix(".part")
        hashed = hashlib.sha256()
        with self._open(name) as packed, partial.open("wb") as out:
            for piece in _unpacked(packed, self._name):
                hashed.update(piece)
                out.write(piece)
        if hashed.hexdigest() != diff_id.removeprefix("sha256:"):
            partial.unlink()
            raise ClientError(f"{self._name}: layer {name} is damaged: it is not {diff_id}")
        partial.replace(path)
        return path


def _unpacked(packed: IO[bytes], name: str) -> Iterator[bytes]:
    head = packed.read(4)
    packed.seek(0)
    if head.startswith(_GZIP):
        yield from _gunzipped(packed)
    elif head == _ZSTD:
        yield from _unzstd(packed, name)
    else:
        while piece := packed.read(_PIECE):
            yield piece


def _gunzipped(packed: IO[bytes]) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    while piece := packed.read(_PIECE):
        yield unpacker.decompress(piece)
    yield unpacker.flush()


def _unzstd(packed: IO[bytes], name: str) -> Iterator[bytes]:
    """Python 3.11 has no zstd: Debian's program does it (`make setup` installs it)."""
    if not shutil.which("zstd"):
        raise ClientError(f"{name} has layers packed with zstd: apt-get install zstd")
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as out:
        shutil.copyfileobj(packed, file, _PIECE)
        file.seek(0)
        words = ["zstd", "-q", "-d", "-c", "--long=31"]
        if subprocess.run(words, stdin=file, stdout=out, check=False).returncode:
            raise ClientError(f"{name}: a layer packed with zstd is damaged")
        out.seek(0)
        while piece := out.read(_PIECE):
            yield piece


def _blob(digest: str) -> str:
    kind, _, value = digest.partition(":")
    return f"blobs/{kind}/{value}"


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"

"""The doorway to the engine's storage: where the extracted files of a layer are. It is only read.

Two of Docker's stores are known: its storage driver overlay2
(https://github.com/moby/moby, layer/filestore.go, distribution/metadata, daemon/graphdriver), and
containerd's overlayfs snapshotter (https://github.com/containerd/containerd, snapshots/storage). A
layer has one digest of its own (diffID), one with all that is below it (chainID,
https://github.com/opencontainers/image-spec/blob/main/config.md), and those of the blobs that
brought it. Whatever is read here is used for content that is verified by digest.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gantry.supervisor import bolt
from gantry.supervisor.tarsplit import SplitTar

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_CACHE = re.compile(r"[0-9a-z]{1,128}")
_LIMIT = 4 * 1024**2  # bytes of a small file of the engine's
SNAPSHOTTER = "io.containerd.snapshotter.v1.overlayfs"
CONTENT = "io.containerd.content.v1.content"


class StorageError(Exception):
    """The engine's storage cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class KnownBlob:
    """A blob that the engine takes for a layer without downloading it; `size` where it is known."""

    digest: str
    size: int | None = None


class Storage(Protocol):
    """One engine's storage. `is_chained`: a layer is downloaded again, known or not, where one
    below it has to be."""

    is_chained: bool

    def folder(self, chain: str) -> Path | None:
        """Where the files of the layer with this chainID are; None: it is not here."""

    def known(self, chain: str, diff_id: str, digest: str) -> KnownBlob | None:
        """By which blob the engine has this layer; `digest` is the registry's for it. None: it
        would download whatever it is told."""

    def tar(self, chain: str) -> SplitTar | None:
        """The tar of the layer with this chainID, where the engine can tell it."""


def chain_ids(diff_ids: Iterable[str]) -> tuple[str, ...]:
    """The chainID of each layer, lowest first."""
    found: list[str] = []
    for each in diff_ids:
        both = f"{found[-1]} {each}" if found else ""
        found.append(f"sha256:{hashlib.sha256(both.encode()).hexdigest()}" if both else each)
    return tuple(found)


def open_storage(root: Path, driver: str) -> Storage:
    """The storage of an engine that says that it has this driver; `root` is where its folders are.

    Raises:
        StorageError: it is of another kind, or not mounted here.
    """
    if driver == "overlay2":
        place: Path = root / "image" / "overlay2" / "layerdb"
        found: Storage = Overlay2(root)
    elif driver == "overlayfs":
        place, found = root / SNAPSHOTTER / "metadata.db", Snapshots(root)
    else:
        raise StorageError(f"the engine's storage driver is {driver or 'unknown'}, not overlay2")
    if not place.exists():
        raise StorageError(f"the engine's storage is not mounted here ({place} is missing)")
    return found


class Overlay2:
    """Docker's own store. `root` has the folders `image` and `overlay2`."""

    is_chained = True

    def __init__(self, root: Path) -> None:
        self._root = root
        self._image = root / "image" / "overlay2"

    def folder(self, chain: str) -> Path | None:
        """See Storage."""
        cache = _small(self._layer(chain) / "cache-id").decode(errors="replace").strip()
        folder = self._root / "overlay2" / cache / "diff"
        return folder if _CACHE.fullmatch(cache) and folder.is_dir() else None

    def known(self, chain: str, diff_id: str, digest: str) -> KnownBlob | None:
        """See Storage. Where an engine built or loaded an image, it knows no blob of its layers."""
        if self.folder(chain) is None:
            return None
        tables = self._image / "distribution"
        content = _small(tables / "v2metadata-by-diffid" / "sha256" / _hex(diff_id))
        try:
            listed = [str(each["Digest"]) for each in json.loads(content or b"[]")]
        except (ValueError, KeyError, TypeError):
            listed = []
        # The table that the engine itself asks.
        back = tables / "diffid-by-digest" / "sha256"
        for each in dict.fromkeys((digest, diff_id, *listed)):
            if _small(back / _hex(each)).decode(errors="replace").strip() == diff_id:
                return KnownBlob(each)
        return None

    def tar(self, chain: str) -> SplitTar | None:
        """See Storage."""
        listing, folder = self._layer(chain) / "tar-split.json.gz", self.folder(chain)
        return SplitTar(listing, folder) if folder is not None and listing.is_file() else None

    def _layer(self, chain: str) -> Path:
        return self._image / "layerdb" / "sha256" / _hex(chain)


class Snapshots:
    """containerd's store. `root` has the folders of its snapshotter and of its blobs."""

    is_chained = False

    def __init__(self, root: Path) -> None:
        self._root = root / SNAPSHOTTER
        self._blobs = root / CONTENT / "blobs" / "sha256"

    def folder(self, chain: str) -> Path | None:
        """See Storage. A snapshot is called `<namespace>/<number>/<chainID>`."""
        ending = f"/{chain}".encode()
        try:
            number = bolt.find(self._root / "metadata.db", (b"v1", b"snapshots"), ending, b"id")
        except OSError:
            return None
        if number is None:
            return None
        folder = self._root / "snapshots" / str(_uvarint(number)) / "fs"
        return folder if folder.is_dir() else None

    def known(self, chain: str, diff_id: str, digest: str) -> KnownBlob | None:
        """See Storage. What is in its blobs is unpacked from there, wherever it belongs."""
        for each in (digest, diff_id):
            try:
                return KnownBlob(each, (self._blobs / _hex(each)).stat().st_size)
            except OSError:
                continue
        return None

    def tar(self, chain: str) -> SplitTar | None:
        """See Storage. It keeps none: it has the blobs instead."""
        return None


def layer_folders(storage: Storage, images: Iterable[Sequence[str]]) -> dict[str, Path]:
    """Where the files of these images' layers are, by diffID. `images` are their diffIDs, lowest
    first; layers that are not found are left out."""
    found: dict[str, Path] = {}
    for diff_ids in images:
        for diff_id, chain in zip(diff_ids, chain_ids(diff_ids), strict=True):
            if diff_id not in found and (folder := storage.folder(chain)) is not None:
                found[diff_id] = folder
    return found


def _hex(digest: str) -> str:
    match = _DIGEST.fullmatch(digest)
    return match[1] if match else "none"


def _small(path: Path) -> bytes:
    """A small file's content; empty where there is none."""
    try:
        with path.open("rb") as stream:
            return stream.read(_LIMIT)
    except OSError:
        return b""


def _uvarint(value: bytes) -> int:
    """A number as Go's encoding/binary writes it."""
    number = 0
    for place, byte in enumerate(value[:10]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            break
    return number

"""Writing of bundles: a release's target and images, from the fleet's registry into one file.

The format is docs/bundle-format.md. The file is written once, front to back: sizes and digests are
known from the manifests beforehand. How much room layers take is known when they have gone by; the
index, which is at the front, is written last and filled up with spaces.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from gantry import __version__
from gantry.client.errors import ClientError, UnreachableError
from gantry.client.registry import INDEX_TYPES, Registry
from gantry.contracts.bundle import (
    DOCUMENT_LIMIT,
    INDEX_LIMIT,
    BundledImage,
    Header,
    Index,
    Part,
    PartKind,
)

TARGET_TYPE = "application/vnd.gantry.target.v3+json"
_TRIES = 4
# Longer than any figure in its place: 19 digits are the largest of 64 bits.
_WIDEST = 10**18
_GZIP = 31


@dataclass(frozen=True, slots=True)
class Release:
    """What is to be bundled. `app` is in the family's form of version 3, with one release."""

    fleet_uuid: str
    app: Mapping[str, Any]
    device: str | None = None

    @property
    def commit(self) -> str:
        return str(next(iter(self.app["releases"])))

    @property
    def content(self) -> Mapping[str, Any]:
        release: Mapping[str, Any] = self.app["releases"][self.commit]
        return release

    def references(self) -> list[str]:
        """The images' names, each once."""
        services = self.content["services"].values()
        return list(dict.fromkeys(str(each["image"]) for each in services))


@dataclass(slots=True)
class _Contents:
    """What goes in: parts by digest, documents that are in memory, and where layers are had."""

    parts: dict[str, Part] = field(default_factory=dict)
    documents: dict[str, bytes] = field(default_factory=dict)
    repositories: dict[str, str] = field(default_factory=dict)
    images: list[BundledImage] = field(default_factory=list)

    def add(self, kind: PartKind, content: bytes, media_type: str) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.parts[digest] = Part(kind, digest, len(content), media_type)
        self.documents[digest] = content
        return digest

    def ordered(self) -> list[Part]:
        kinds = list(PartKind)
        return sorted(self.parts.values(), key=lambda each: kinds.index(each.kind))


def write_bundle(
    release: Release,
    open_registry: Callable[[str], Registry],
    destination: Path,
    architecture: str,
    moved: Callable[[int, int], None],
) -> Index:
    """Write a bundle; what is in it. `moved` hears how many of how many bytes are there.
    `architecture` is that of images (`amd64`, `arm64`, `arm`), where a name stands for several.

    Raises:
        ClientError: one of its kinds; the file is then as it was.
    """
    references = release.references()
    if not references:
        raise ClientError(f"release {release.commit} has no images: there is nothing to bundle")
    address = references[0].partition("/")[0]
    partial = destination.with_name(f"{destination.name}.part")
    try:
        with open_registry(address) as registry:
            contents = _contents(release, references, registry, architecture)
            try:
                index = _write(partial, release, contents, registry, moved)
                partial.replace(destination)
            finally:
                partial.unlink(missing_ok=True)
    except OSError as error:
        raise ClientError(f"{destination} cannot be written: {error.strerror or error}") from error
    return index


def _contents(
    release: Release, references: Iterable[str], registry: Registry, architecture: str
) -> _Contents:
    contents = _Contents()
    document = json.dumps({release.fleet_uuid: release.app}, sort_keys=True).encode()
    contents.add(PartKind.TARGET, document, TARGET_TYPE)
    if len(document) > DOCUMENT_LIMIT:
        raise ClientError(f"the release's target has {len(document)} bytes: too many for a bundle")
    for reference in references:
        name, _, digest = reference.partition("@")
        if not digest:
            raise ClientError(f"{reference} has no digest: only images of finished builds have one")
        repository = name.partition("/")[2]
        _add_image(contents, reference, repository, registry, architecture)
    return contents


def _add_image(
    contents: _Contents, reference: str, repository: str, registry: Registry, architecture: str
) -> None:
    digest = reference.partition("@")[2]
    content, media_type = registry.manifest(repository, digest)
    contents.add(PartKind.MANIFEST, content, media_type)
    manifest = json.loads(content)
    if media_type in INDEX_TYPES:
        digest = _of_architecture(manifest, architecture, reference)
        content, media_type = registry.manifest(repository, digest)
        contents.add(PartKind.MANIFEST, content, media_type)
        manifest = json.loads(content)
    try:
        config, layers = manifest["config"], list(manifest["layers"])
        blob = b"".join(registry.blob(repository, config["digest"]))
        made = contents.add(PartKind.CONFIG, blob, config["mediaType"])
        if made != config["digest"]:
            raise UnreachableError(f"{reference}: its configuration came damaged: try again")
        for each in layers:
            part = Part(PartKind.LAYER, each["digest"], each["size"], each["mediaType"])
            contents.parts[part.digest] = part
            contents.repositories[part.digest] = repository
        names = tuple(str(each["digest"]) for each in layers)
    except (KeyError, TypeError) as error:
        raise ClientError(f"{reference}: {digest} is no image's manifest") from error
    contents.images.append(BundledImage(reference, digest, config["digest"], names))


def _of_architecture(document: Mapping[str, Any], architecture: str, reference: str) -> str:
    for each in document.get("manifests") or []:
        if (each.get("platform") or {}).get("architecture") == architecture:
            return str(each["digest"])
    raise ClientError(f"{reference} has no image for {architecture}")


def _write(
    path: Path,
    release: Release,
    contents: _Contents,
    registry: Registry,
    moved: Callable[[int, int], None],
) -> Index:
    index = Index(
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        made_by=f"gantry {__version__}",
        fleet_uuid=release.fleet_uuid,
        fleet_id=release.app["id"],
        fleet_slug=str(release.app.get("slug") or release.app["name"]),
        release_id=release.content["id"],
        commit=release.commit,
        device=release.device,
        parts=tuple(contents.ordered()),
        images=tuple(contents.images),
    )
    widest = replace(index, parts=tuple(replace(each, unpacked=_WIDEST) for each in index.parts))
    length = len(widest.encode())
    if length > INDEX_LIMIT:
        raise ClientError(f"the bundle's index would have {length} bytes: too many images")
    with path.open("wb") as stream:
        header = Header(length, bytes(32), length + index.payload)
        stream.seek(header.index_offset + length)
        parts: list[Part] = []
        for part in index.parts:
            done = stream.tell() - header.index_offset - length
            moved(done, index.payload)
            if part.digest in contents.documents:
                stream.write(contents.documents[part.digest])
                parts.append(part)
            else:
                parts.append(_layer(stream, part, contents.repositories[part.digest], registry))
        index = replace(index, parts=tuple(parts))
        encoded = index.encode().ljust(length)
        stream.seek(0)
        stream.write(replace(header, index_digest=hashlib.sha256(encoded).digest()).pack())
        stream.write(encoded)
        stream.flush()
        os.fsync(stream.fileno())
    moved(index.payload, index.payload)
    return index


def _layer(stream: BinaryIO, part: Part, repository: str, registry: Registry) -> Part:
    """Write a layer, from the beginning again where the connection breaks."""
    place = stream.tell()
    for attempt in range(1, _TRIES + 1):
        try:
            unpacked = _copy(stream, part, registry.blob(repository, part.digest))
            return replace(part, unpacked=unpacked)
        except UnreachableError:
            if attempt == _TRIES:
                raise
            stream.seek(place)
            stream.truncate()
    raise AssertionError("unreachable")


def _copy(stream: BinaryIO, part: Part, pieces: Iterator[bytes]) -> int:
    """How much room the layer takes unpacked; 0 where its compression is not known here."""
    digest = hashlib.sha256()
    count = _Unpacked(part.media_type)
    written = 0
    for piece in pieces:
        stream.write(piece)
        digest.update(piece)
        count.add(piece)
        written += len(piece)
    if written != part.size or digest.hexdigest() != part.digest.partition(":")[2]:
        raise UnreachableError(f"layer {part.digest} came damaged: try again")
    return count.total


class _Unpacked:
    """Counts what a compressed stream holds, without keeping it."""

    def __init__(self, media_type: str) -> None:
        self._is_gzip = media_type.endswith("gzip")
        self._is_plain = media_type.endswith(".tar")
        self._inflate = zlib.decompressobj(_GZIP)
        self.total = 0

    def add(self, piece: bytes) -> None:
        """More of the stream."""
        if self._is_plain:
            self.total += len(piece)
        while self._is_gzip and piece:
            try:
                unpacked = self._inflate.decompress(piece, 4 * 1024**2)
            except zlib.error:
                self._is_gzip, self.total = False, 0
                return
            self.total += len(unpacked)
            if self._inflate.eof:  # gzip allows one stream behind the other
                piece, self._inflate = self._inflate.unused_data, zlib.decompressobj(_GZIP)
            else:
                piece = self._inflate.unconsumed_tail

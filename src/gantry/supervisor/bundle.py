"""Reading of bundles: every part is verified before anything of it is used.

Nothing here trusts the file: lengths are bounded before they are read, a part is read in pieces,
and what is kept in memory is one document at most. The format is docs/bundle-format.md.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gantry.contracts.bundle import (
    DOCUMENT_LIMIT,
    HEADER_LENGTH,
    BundledImage,
    BundleError,
    Header,
    Index,
    Part,
    PartKind,
    read_header,
    read_index,
)
from gantry.supervisor import wire
from gantry.supervisor.target import read_target

PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle in a file, whose header and index are sound. `offsets` are the parts' places."""

    path: Path
    index: Index
    offsets: Mapping[str, int]

    def pieces(self, part: Part) -> Iterator[bytes]:
        """The content of a part.

        Raises:
            OSError: the file cannot be read.
            BundleError: it ends too early.
        """
        with self.path.open("rb") as stream:
            stream.seek(self.offsets[part.digest])
            yield from _pieces(stream, part.size, part)

    def document(self, digest: str) -> dict[str, Any]:
        """A part that is JSON, verified once more. Raises as `content` does."""
        try:
            found = json.loads(self.content(digest))
        except (ValueError, RecursionError) as error:
            raise BundleError(f"the bundle's part {digest} is no JSON: make it anew") from error
        if not isinstance(found, dict):
            raise BundleError(f"the bundle's part {digest} is no JSON object: make it anew")
        return found

    def content(self, digest: str) -> bytes:
        """A small part as a whole, verified once more: a stick may have been changed meanwhile.

        Raises:
            OSError: the file cannot be read.
            BundleError: it is damaged, or no small part.
        """
        part = self.index.part(digest)
        if part.size > DOCUMENT_LIMIT:
            raise BundleError(f"the bundle's part {digest} is too large to be read as a whole")
        content = b"".join(self.pieces(part))
        if hashlib.sha256(content).hexdigest() != digest.partition(":")[2]:
            raise _damaged(part)
        return content

    def verify(self, done: Callable[[int], bool]) -> None:
        """Read all parts and compare their digests. `done` hears how many bytes were read, and
        says whether to go on.

        Raises:
            OSError: the file cannot be read.
            BundleError: a part is damaged, or the file is no longer as it was.
        """
        read = 0
        with self.path.open("rb") as stream:
            for part in self.index.parts:
                stream.seek(self.offsets[part.digest])
                digest = hashlib.sha256()
                for piece in _pieces(stream, part.size, part):
                    digest.update(piece)
                    read += len(piece)
                    if not done(read):
                        raise BundleError("it was not read to its end")
                if digest.hexdigest() != part.digest.partition(":")[2]:
                    raise _damaged(part)


def open_bundle(path: Path) -> Bundle:
    """Read header and index, and see that the file is as long as it must be.

    Raises:
        OSError: the file cannot be read.
        BundleError: it is no bundle, is cut off, damaged, or of a version that is not known here.
    """
    with path.open("rb") as stream:
        header = read_header(stream.read(HEADER_LENGTH))
        length = path.stat().st_size
        if length != header.total:
            how = "was cut off" if length < header.total else "has something behind its end"
            raise BundleError(
                f"the bundle {how}: it has {length} of {header.total} bytes; copy it again"
            )
        stream.seek(header.index_offset)
        index = read_index(stream.read(header.index_length), header)
    return Bundle(path, index, _offsets(header, index))


def _offsets(header: Header, index: Index) -> dict[str, int]:
    found = {}
    place = header.index_offset + header.index_length
    for part in index.parts:
        found[part.digest] = place
        place += part.size
    return found


def _pieces(stream: BinaryIO, size: int, part: Part) -> Iterator[bytes]:
    while size > 0:
        piece = stream.read(min(PIECE, size))
        if not piece:
            raise BundleError(f"the bundle ends within {part.kind} {part.digest}: copy it again")
        size -= len(piece)
        yield piece


def _damaged(part: Part) -> BundleError:
    return BundleError(
        f"the bundle's {part.kind} {part.digest} ({part.size} bytes) is damaged: copy the bundle "
        "again, or use another stick"
    )


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image's own documents say: for which machine, and the layers' unpacked digests."""

    image: BundledImage
    architecture: str
    variant: str
    diff_ids: tuple[str, ...]


def image_facts(bundle: Bundle, image: BundledImage) -> ImageFacts:
    """Read an image's manifest and configuration, which must say what the index says.

    Raises:
        OSError: the file cannot be read.
        BundleError: they contradict the index.
    """
    manifest = bundle.document(image.manifest)
    try:
        config = str(manifest["config"]["digest"])
        layers = tuple(str(each["digest"]) for each in manifest["layers"])
    except (KeyError, TypeError) as error:
        raise BundleError(f"{image.manifest} is no manifest of an image: make it anew") from error
    if (config, layers) != (image.config, image.layers):
        raise BundleError(f"the manifest of {image.reference} is not what the index says of it")
    document = bundle.document(image.config)
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    return ImageFacts(
        image=image,
        architecture=str(document.get("architecture") or ""),
        variant=str(document.get("variant") or ""),
        diff_ids=tuple(str(each) for each in diff_ids) if isinstance(diff_ids, list) else (),
    )


def target_app(bundle: Bundle) -> dict[str, Any]:
    """The application as the device is to run it, in the family's form of version 3.

    Raises:
        OSError: the file cannot be read.
        BundleError: it is another than the index says, has images that the bundle lacks, or is no
            target that a device could follow.
    """
    index = bundle.index
    part = next(each for each in index.parts if each.kind is PartKind.TARGET)
    try:
        app = bundle.document(part.digest)[index.fleet_uuid]
        release = app["releases"][index.commit]
        named = {str(each["image"]) for each in release["services"].values()}
        is_one = len(app["releases"]) == 1 and app["id"] == index.fleet_id
        is_one = is_one and release["id"] == index.release_id
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError("the bundle's target is not that of its release: make it anew") from error
    if not is_one:
        raise BundleError("the bundle's target is not that of its release: make it anew")
    missing = named - {each.reference for each in index.images}
    if missing:
        raise BundleError(f"the bundle lacks the image {min(missing)}: make it anew")
    try:
        found = read_target({"": {"apps": {index.fleet_uuid: app}}}, "")
    except wire.WireError as error:
        raise BundleError(f"the bundle's target cannot be used: {error}; make it anew") from error
    if not found.apps:
        raise BundleError("the bundle's target is an update of the host, which is not made here")
    return dict(app)

"""A bundle: one file that carries a release to a device without network.

docs/bundle-format.md has it byte by byte; here are its constants, its header and its index.
"""

import hashlib
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

SUFFIX = ".gantry-bundle"
# Before the suffix, in the name of a file that nobody can be asked about: `x.force.gantry-bundle`.
FORCE = ".force"
MEDIA_TYPE = "application/vnd.gantry.bundle"
VERSION = 1
# As PNG has it: a transfer that changes line ends or the eighth bit is found out at once.
MAGIC = b"\x89GANTRY\n"
# Magic, version, length of the index, SHA-256 of the index, length of all after the signature,
# length of the signature. Big-endian.
_HEADER = struct.Struct(">8sII32sQI4x")
HEADER_LENGTH = _HEADER.size
INDEX_LIMIT = 1024**2
SIGNATURE_LIMIT = 16 * 1024
# Of a part that is read as a whole: a manifest, a configuration, the target. With the family, a
# composition may have 1 MB, and as much again in variables.
DOCUMENT_LIMIT = 4 * 1024**2
PARTS_LIMIT = 4096

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REFERENCE = re.compile(r"(?P<name>[a-z0-9][a-z0-9._:/-]{0,254})@(?P<digest>sha256:[0-9a-f]{64})")


class BundleError(ValueError):
    """A file is no bundle that can be used; the message says what is wrong with it."""


class PartKind(StrEnum):
    """What a part is. In a bundle they come in this order: what is small comes first."""

    TARGET = "target"
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"


@dataclass(frozen=True, slots=True)
class Header:
    """The fixed beginning of a bundle. Lengths are in bytes; `payload` is index and parts."""

    index_length: int
    index_digest: bytes
    payload: int
    signature_length: int = 0

    @property
    def index_offset(self) -> int:
        return HEADER_LENGTH + self.signature_length

    @property
    def total(self) -> int:
        """The length of the whole file."""
        return self.index_offset + self.payload

    def pack(self) -> bytes:
        return _HEADER.pack(
            MAGIC,
            VERSION,
            self.index_length,
            self.index_digest,
            self.payload,
            self.signature_length,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the file. `unpacked` is how much room a layer takes, as far as that is known."""

    kind: PartKind
    digest: str
    size: int
    media_type: str
    unpacked: int = 0


@dataclass(frozen=True, slots=True)
class BundledImage:
    """An image: its name in the fleet's registry, and the digests of what it is made of.

    `manifest` is that of one architecture; it is the digest in `reference` where that is no list.
    """

    reference: str
    manifest: str
    config: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """What is in a bundle, and for whom. `device` is a uuid where it is for one device alone."""

    created_at: str
    made_by: str
    fleet_uuid: str
    fleet_id: int
    fleet_slug: str
    release_id: int
    commit: str
    device: str | None
    parts: tuple[Part, ...]
    images: tuple[BundledImage, ...]

    def part(self, digest: str) -> Part:
        """The part of this digest, which is there: `read_index` has seen to it."""
        return next(each for each in self.parts if each.digest == digest)

    @property
    def payload(self) -> int:
        """Bytes of all parts."""
        return sum(each.size for each in self.parts)

    def encode(self) -> bytes:
        """The index as JSON."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":")).encode()


def read_header(content: bytes) -> Header:
    """The header in a file's first bytes.

    Raises:
        BundleError: these do not begin a bundle of a version that is known here.
    """
    if len(content) < HEADER_LENGTH or not content.startswith(MAGIC):
        raise BundleError(
            "this is no bundle, or one that a text transfer has changed: copy it as a binary file"
        )
    _, version, length, digest, payload, signature = _HEADER.unpack(content[:HEADER_LENGTH])
    if version != VERSION:
        raise BundleError(
            f"the bundle has format {version}, and here {VERSION} is known: update the supervisor, "
            "or make the bundle with the gantry command of this version"
        )
    if content[HEADER_LENGTH - 4 : HEADER_LENGTH] != bytes(4):
        raise BundleError("the bundle's header is damaged: copy the bundle again")
    if not 0 < length <= INDEX_LIMIT or length > payload or signature > SIGNATURE_LIMIT:
        raise BundleError(
            f"the bundle's header is damaged (index of {length} bytes in {payload}, signature of "
            f"{signature}): copy the bundle again"
        )
    return Header(length, digest, payload, signature)


def read_index(content: bytes, header: Header) -> Index:
    """The index, of which every field is of the right type and the parts fill the file.

    Raises:
        BundleError: it is another than the header says, or does not hold together.
    """
    if hashlib.sha256(content).digest() != header.index_digest:
        raise BundleError("the bundle's index is damaged: copy the bundle again")
    try:
        index = _index(json.loads(content))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BundleError(f"the bundle's index cannot be used: {error!r:.200}") from error
    if header.index_length + index.payload != header.payload:
        raise BundleError(
            f"the bundle's parts have {index.payload} bytes and its header leaves "
            f"{header.payload - header.index_length}: make the bundle anew"
        )
    _check_images(index)
    return index


def _index(document: Mapping[str, Any]) -> Index:
    parts = tuple(_part(each) for each in _list(document["parts"]))
    if len({each.digest for each in parts}) != len(parts):
        raise ValueError("two parts of one digest")
    if sum(each.kind is PartKind.TARGET for each in parts) != 1:
        raise ValueError("it needs one target")
    device = document["device"]
    return Index(
        created_at=_text(document["created_at"]),
        made_by=_text(document["made_by"]),
        fleet_uuid=_text(document["fleet_uuid"]),
        fleet_id=_number(document["fleet_id"]),
        fleet_slug=_text(document["fleet_slug"]),
        release_id=_number(document["release_id"]),
        commit=_text(document["commit"]),
        device=None if device is None else _text(device),
        parts=parts,
        images=tuple(_image(each) for each in _list(document["images"])),
    )


def _part(document: Mapping[str, Any]) -> Part:
    kind = PartKind(document["kind"])
    size = _number(document["size"])
    if kind is not PartKind.LAYER and size > DOCUMENT_LIMIT:
        raise ValueError(f"a {kind} of {size} bytes")
    digest, media_type = _digest(document["digest"]), _text(document["media_type"])
    return Part(kind, digest, size, media_type, _number(document["unpacked"]))


def _image(document: Mapping[str, Any]) -> BundledImage:
    reference = _text(document["reference"])
    if _REFERENCE.fullmatch(reference) is None:
        raise ValueError(f"an image called {reference!r:.100}")
    layers = tuple(_digest(each) for each in _list(document["layers"]))
    return BundledImage(
        reference, _digest(document["manifest"]), _digest(document["config"]), layers
    )


def _check_images(index: Index) -> None:
    kinds = {each.digest: each.kind for each in index.parts}
    for image in index.images:
        needed = {image.reference.partition("@")[2]: PartKind.MANIFEST}
        needed |= {image.manifest: PartKind.MANIFEST, image.config: PartKind.CONFIG}
        needed |= dict.fromkeys(image.layers, PartKind.LAYER)
        for digest, kind in needed.items():
            if kinds.get(digest) is not kind:
                raise BundleError(
                    f"the bundle lacks the {kind} {digest} of {image.reference}: make it anew"
                )


def _list(value: object) -> list[Any]:
    if not isinstance(value, list) or len(value) > PARTS_LIMIT:
        raise TypeError(f"a list of at most {PARTS_LIMIT} is expected")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value or len(value) > 512 or not value.isprintable():
        raise TypeError(f"{value!r:.80}: a text is expected")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise TypeError(f"{value!r:.80}: a whole number is expected")
    return value


def _digest(value: object) -> str:
    if not isinstance(value, str) or _DIGEST.fullmatch(value) is None:
        raise TypeError(f"{value!r:.80}: a digest (sha256:…) is expected")
    return value


def local_tag(reference: str) -> str | None:
    """The tag under which an engine may hold `name@sha256:…` that came without a registry; None
    for a name without a digest.

    An engine takes a digest into an image's names only where it pulled it by that very name.
    """
    match = _REFERENCE.fullmatch(reference)
    return f"{match['name']}:{match['digest'].replace(':', '-')}" if match else None


def canonical_reference(tag: str) -> str:
    """`name@sha256:…` for the tag that `local_tag` makes; other names as they are."""
    name, colon, digest = tag.rpartition(":sha256-")
    reference = f"{name}@sha256:{digest}"
    return reference if colon and _REFERENCE.fullmatch(reference) else tag

"""How distribution 2.8 keeps repositories in its storage, and what is in them.

The paths are those of registry/storage/paths.go of distribution 2.8; manifests are Docker's
(https://distribution.github.io/distribution/spec/manifest-v2-2/) and OCI's
(https://github.com/opencontainers/image-spec/blob/main/manifest.md).
"""

import json
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from gantry.registry.storage import Storage

ROOT = "docker/registry/v2"
BLOBS = f"{ROOT}/blobs"
REPOSITORIES = f"{ROOT}/repositories"
# Ours, beside the registry's: which manifests were removed, and when.
REMOVED = "gantry/removed"

_BLOB = re.compile(rf"{BLOBS}/sha256/[0-9a-f]{{2}}/(?P<hex>[0-9a-f]{{64}})/data")
_LINK = re.compile(
    rf"{REPOSITORIES}/(?P<name>.+?)/(?P<kind>_layers|_manifests/revisions)"
    r"/sha256/(?P<hex>[0-9a-f]{64})/link"
)
_UPLOAD = re.compile(rf"{REPOSITORIES}/.+?/_uploads/[^/]+/data")
_REMOVED = re.compile(rf"{REMOVED}/(?P<name>.+)/sha256/(?P<hex>[0-9a-f]{{64}})")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# They name other images, which do not belong to this one.
_NOT_HELD = ("subject", "annotations")

# A manifest in its repository: the name, and the digest.
Place = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob: bytes, and when it came (seconds since 1970)."""

    size: int
    modified: float


@dataclass(slots=True)
class Repository:
    """The digests of a repository's manifests, and of the blobs that it may serve."""

    manifests: set[str] = field(default_factory=set)
    layers: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a manifest is made of: configuration, layers, manifests of other platforms.

    `subject` is the image that it says something of (a signature's, an attestation's). `size` of
    the manifest itself. `is_missing`: it is linked, but its content is not there.
    """

    holds: frozenset[str] = frozenset()
    subject: str | None = None
    size: int = 0
    is_missing: bool = False


@dataclass(slots=True)
class Contents:
    """All that is in a registry. `uploads` are the bytes of those that are not finished.

    `removed` says when the collector removed manifests, in seconds since 1970.
    """

    blobs: dict[str, Blob] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    removed: dict[Place, float] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    uploads: int = 0


def read_contents(storage: Storage) -> Contents:
    """Everything. Blobs first: one that comes later is in no list of those that may go."""
    contents = Contents()
    for entry in storage.entries(BLOBS):
        if found := _BLOB.fullmatch(entry.path):
            contents.blobs[f"sha256:{found['hex']}"] = Blob(entry.size, entry.modified)
    for entry in storage.entries(REPOSITORIES):
        if found := _LINK.fullmatch(entry.path):
            repository = contents.repositories.setdefault(found["name"], Repository())
            is_layer = found["kind"] == "_layers"
            (repository.layers if is_layer else repository.manifests).add(f"sha256:{found['hex']}")
        elif _UPLOAD.fullmatch(entry.path):
            contents.uploads += entry.size
    for entry in storage.entries(REMOVED):
        if found := _REMOVED.fullmatch(entry.path):
            contents.removed[(found["name"], f"sha256:{found['hex']}")] = entry.modified
    wanted = {each for repo in contents.repositories.values() for each in repo.manifests}
    wanted |= {digest for _, digest in contents.removed}
    contents.manifests = read_manifests(storage, wanted)
    return contents


def manifests_of(storage: Storage, repository: str) -> set[str]:
    """The digests of a repository's manifests, as they are now."""
    below = f"{REPOSITORIES}/{repository}/_manifests/revisions"
    found = (_LINK.fullmatch(entry.path) for entry in storage.entries(below))
    return {f"sha256:{each['hex']}" for each in found if each}


def read_manifests(storage: Storage, digests: Iterable[str]) -> dict[str, Manifest]:
    """What these manifests say; several are read at once where that is faster."""

    def read(digest: str) -> Manifest:
        try:
            return parse_manifest(storage.read(blob_path(digest)))
        except FileNotFoundError:
            return Manifest(is_missing=True)

    listed = sorted(digests)
    if storage.readers == 1:
        return {digest: read(digest) for digest in listed}
    with ThreadPoolExecutor(storage.readers) as pool:
        return dict(zip(listed, pool.map(read, listed), strict=True))


def parse_manifest(content: bytes) -> Manifest:
    """Every digest that it names is held, whatever its kind; what is no JSON is searched."""
    try:
        document = json.loads(content)
    except ValueError:
        text = content.decode("utf-8", "replace")
        return Manifest(frozenset(_DIGEST.findall(text)), size=len(content))
    subject = document.get("subject") if isinstance(document, dict) else None
    named = subject.get("digest") if isinstance(subject, dict) else None
    return Manifest(
        holds=frozenset(_digests(document)),
        subject=named if isinstance(named, str) else None,
        size=len(content),
    )


def _digests(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if _DIGEST.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            if name not in _NOT_HELD:
                yield from _digests(each)
    elif isinstance(value, list):
        for each in value:
            yield from _digests(each)


def blob_path(digest: str) -> str:
    """Where a blob's content is."""
    named = digest.removeprefix("sha256:")
    return f"{BLOBS}/sha256/{named[:2]}/{named}/data"


def layer_path(repository: str, digest: str) -> str:
    """What allows a repository to serve a blob."""
    named = digest.removeprefix("sha256:")
    return f"{REPOSITORIES}/{repository}/_layers/sha256/{named}/link"


def manifest_path(repository: str, digest: str) -> str:
    """What makes a blob a manifest of a repository."""
    named = digest.removeprefix("sha256:")
    return f"{REPOSITORIES}/{repository}/_manifests/revisions/sha256/{named}/link"


def removed_path(repository: str, digest: str) -> str:
    """Where it is noted that a manifest was removed; the file's time says when."""
    return f"{REMOVED}/{repository}/sha256/{digest.removeprefix('sha256:')}"

"""Images as the registry has them: their layers, and what of them a delta is made of.

Manifests are Docker's schema 2 (https://distribution.github.io/distribution/spec/manifest-v2-2/) or
OCI's (https://github.com/opencontainers/image-spec/blob/main/manifest.md).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gantry.deltas.names import Names, names_of_pair
from gantry.deltas.server.errors import WholeError

MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
INDEX_TYPES = (
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
MAX_LAYERS = 512
# By the ends of media types: `…diff.tar.gzip`, `…layer.v1.tar+gzip`, `…tar.zstd`, `…tar`.
_COMPRESSIONS = {"gzip": "gzip", "zstd": "zstd", "tar": ""}


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: `digest` and `size` of the blob in the registry, `diff_id` of the tar in it.

    `compression` is `gzip`, `zstd` or nothing.
    """

    digest: str
    size: int
    diff_id: str
    compression: str
    repository: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image of one platform (`os/architecture[/variant]`); `config` is its id."""

    repository: str
    digest: str
    config: str
    platform: str
    layers: tuple[Layer, ...]

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """What its layers are unpacked, the lowest first."""
        return tuple(each.diff_id for each in self.layers)

    @property
    def size(self) -> int:
        """Bytes of all compressed layers."""
        return sum(each.size for each in self.layers)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a delta is made of: from which layers, which ones. `whole`: what a pull would fetch."""

    sources: tuple[Layer, ...]
    targets: tuple[Layer, ...]
    config: str
    whole: int

    @property
    def names(self) -> Names:
        """What the delta is between, as a device comes to it."""
        sources, targets = (
            tuple(each.diff_id for each in layers) for layers in (self.sources, self.targets)
        )
        return Names(self.config, sources, targets)


def read_image(
    repository: str, digest: str, manifest: Mapping[str, Any], config: Mapping[str, Any]
) -> Image:
    """The image that a manifest and its configuration describe.

    Raises:
        WholeError: it is none that a delta can be made of.
    """
    where = f"{repository}@{digest}"
    try:
        descriptors = list(manifest["layers"])
        diff_ids = [str(each) for each in config["rootfs"]["diff_ids"]]
        if len(descriptors) != len(diff_ids) or len(descriptors) > MAX_LAYERS:
            raise ValueError(f"{len(descriptors)} layers and {len(diff_ids)} diff_ids")
        layers = tuple(
            _layer(repository, each, diff_id)
            for each, diff_id in zip(descriptors, diff_ids, strict=True)
        )
        parts = [str(config["os"]), str(config["architecture"])]
        if variant := config.get("variant"):
            parts.append(str(variant))
        return Image(repository, digest, config_digest(manifest), "/".join(parts), layers)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WholeError(f"{where} is no image with layers: {error!r:.120}") from error


def config_digest(manifest: Mapping[str, Any]) -> str:
    """The digest of the image's configuration.

    Raises:
        KeyError, TypeError: the manifest names none.
    """
    return str(manifest["config"]["digest"])


def only_manifest(where: str, index: Mapping[str, Any]) -> str:
    """The digest of the one image in a list of them; attestations beside it do not count.

    Raises:
        WholeError: it has several platforms (or none): which of them a device means is its matter.
    """
    entries = index.get("manifests")
    found = [
        str(each["digest"])
        for each in (entries if isinstance(entries, list) else ())
        if isinstance(each, dict) and "digest" in each and not _is_attestation(each)
    ]
    if len(found) != 1:
        raise WholeError(f"{where} is for {len(found)} platforms, and deltas are of one")
    return found[0]


def plan(sources: Sequence[Image], target: Image) -> Plan:
    """What is to be made.

    What a pull fetches, and what the delta must hold, is what its names have by their rule.

    Raises:
        WholeError: nothing is to be fetched at all, or a source is of another platform.
    """
    for each in sources:
        if each.platform != target.platform:
            raise WholeError(f"{each.repository} is for {each.platform}, not for {target.platform}")
    names = names_of_pair([each.diff_ids for each in sources], target.config, target.diff_ids)
    if not names.layers:
        raise WholeError("the device has all layers: a pull fetches none")
    known = {layer.diff_id: layer for each in sources for layer in each.layers}
    missing = {layer.diff_id: layer for layer in target.layers}
    targets = tuple(missing[each] for each in names.layers)
    return Plan(
        sources=tuple(known[each] for each in names.sources),
        targets=targets,
        config=target.config,
        # A blob that is in an image twice is fetched once.
        whole=sum({each.digest: each.size for each in targets}.values()),
    )


def _layer(repository: str, descriptor: Mapping[str, Any], diff_id: str) -> Layer:
    digest, size = str(descriptor["digest"]), int(descriptor["size"])
    if not all(each.startswith("sha256:") and len(each) == 71 for each in (digest, diff_id)):
        raise ValueError(f"a layer {digest:.80} of {diff_id:.80}")
    media_type = str(descriptor["mediaType"])
    ending = media_type.replace("+", ".").rpartition(".")[2]
    if ending not in _COMPRESSIONS or size < 0:
        raise ValueError(f"a layer of type {media_type:.80}")
    return Layer(digest, size, diff_id, _COMPRESSIONS[ending], repository)


def _is_attestation(entry: Mapping[str, Any]) -> bool:
    # BuildKit's: no platform that could run (https://docs.docker.com/build/metadata/attestations/).
    platform = entry.get("platform")
    return isinstance(platform, dict) and platform.get("architecture") == "unknown"

"""The manifest by which the engine pulls an image that comes by delta. Pure.

It names the same configuration as the registry's does, so that the image is the same: its id, and
the digest of each unpacked layer, which the engine compares. Only the blobs are others: a layer
that the engine has is named as the engine knows it, any other is the layer's tar, uncompressed.
Media types: https://github.com/opencontainers/image-spec/blob/main/media-types.md and
https://distribution.github.io/distribution/spec/manifest-v2-2/.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from gantry.supervisor.registry import Descriptor, ImageDocuments
from gantry.supervisor.storage import Storage, chain_ids

_DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
_TARS = {_DOCKER: "application/vnd.docker.image.rootfs.diff.tar"}
_OCI_TAR = "application/vnd.oci.image.layer.v1.tar"


class Way(StrEnum):
    """How a layer comes to the engine."""

    KEPT = "kept"  # the engine has it
    REBUILT = "rebuilt"  # from the delta
    STORED = "stored"  # its tar is put together from the engine's own storage


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A layer of the image, and what the manifest says of it."""

    way: Way
    diff_id: str
    chain: str
    descriptor: Descriptor


class MissingLayerError(Exception):
    """A layer is neither here nor in the delta; the message says which."""


def plan_layers(
    documents: ImageDocuments,
    storage: Storage,
    rebuilt: Mapping[str, int],
    stored_size: Callable[[str], int | None],
) -> tuple[PlannedLayer, ...]:
    """How each layer comes, lowest first. `rebuilt` are the sizes of those in the delta, by diffID;
    `stored_size` is that of the tar of a chainID that is here, where it can be told.

    Raises:
        MissingLayerError: one cannot.
    """
    tar = _TARS.get(documents.media_type, _OCI_TAR)
    found: list[PlannedLayer] = []
    is_whole = True  # whether the engine has all that is below
    chains = chain_ids(documents.diff_ids)
    for layer, diff_id, chain in zip(documents.layers, documents.diff_ids, chains, strict=True):
        if is_whole or not storage.is_chained:
            known = storage.known(chain, diff_id, layer.digest)
            if known is not None:
                media_type = tar if known.digest == diff_id else layer.media_type
                size = layer.size if known.size is None else known.size
                descriptor = Descriptor(media_type, known.digest, size)
                found.append(PlannedLayer(Way.KEPT, diff_id, chain, descriptor))
                continue
        is_whole = False
        size_of_tar, way = rebuilt.get(diff_id), Way.REBUILT
        if size_of_tar is None:
            size_of_tar, way = stored_size(chain), Way.STORED
        if size_of_tar is None:
            raise MissingLayerError(f"layer {diff_id} is neither in the delta nor here")
        descriptor = Descriptor(tar, diff_id, size_of_tar)
        found.append(PlannedLayer(way, diff_id, chain, descriptor))
    return tuple(found)


def encode(documents: ImageDocuments, layers: tuple[PlannedLayer, ...]) -> bytes:
    """The manifest of these layers."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": documents.media_type,
            "config": _json(documents.config),
            "layers": [_json(each.descriptor) for each in layers],
        },
        separators=(",", ":"),
    ).encode()


def _json(descriptor: Descriptor) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": descriptor.digest,
        "size": descriptor.size,
    }

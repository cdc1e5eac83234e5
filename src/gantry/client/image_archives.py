"""Images as archives: an OCI layout of layers that are here, and the engine that takes it."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from gantry.client.errors import UnreachableError

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def write(path: Path, config: bytes, layers: Sequence[tuple[str, Path]], tag: str | None) -> None:
    """An OCI layout that `docker load` of every version reads, too (manifest.json)."""
    config_digest = hashlib.sha256(config).hexdigest()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": f"sha256:{config_digest}",
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar",
                    "digest": diff_id,
                    "size": tar.stat().st_size,
                }
                for diff_id, tar in layers
            ],
        }
    ).encode()
    digest = hashlib.sha256(manifest).hexdigest()
    named = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": f"sha256:{digest}",
        "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": tag} if tag else {},
    }
    of_docker = {
        "Config": f"blobs/sha256/{config_digest}",
        "RepoTags": [tag] if tag else None,
        "Layers": [f"blobs/sha256/{diff_id.removeprefix('sha256:')}" for diff_id, _ in layers],
    }
    documents = {
        "oci-layout": _LAYOUT,
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [named]}).encode(),
        "manifest.json": json.dumps([of_docker]).encode(),
        f"blobs/sha256/{digest}": manifest,
        f"blobs/sha256/{config_digest}": config,
    }
    with tarfile.open(path, "w") as tar:
        for name, content in documents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for diff_id, layer in dict(layers).items():
            member = tarfile.TarInfo(f"blobs/sha256/{diff_id.removeprefix('sha256:')}")
            member.size = layer.stat().st_size
            with layer.open("rb") as file:
                tar.addfile(member, file)


def load(archive: Path) -> None:
    """Into the engine here. Raises UnreachableError: it does not take it."""
    import docker
    from docker.errors import DockerException

    try:
        with closing(docker.from_env(timeout=900)) as client, archive.open("rb") as file:
            client.images.load(file)
    except DockerException as error:
        raise UnreachableError(
            f"the engine did not take the image ({error}): write it to a file with --output"
        ) from error

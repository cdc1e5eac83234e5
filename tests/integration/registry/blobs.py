"""Pushing and pulling by the registry's HTTP API
(https://distribution.github.io/distribution/spec/api/)."""

import gzip
import hashlib
import json
import os
from collections.abc import Callable, Sequence

import httpx2

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
GZIP = b"\x1f\x8b"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def push_blob(http: httpx2.Client, repository: str, token: str, content: bytes) -> str:
    """Push in one request after the upload's start; the digest that it is known by."""
    bearer = {"Authorization": f"Bearer {token}"}
    begun = http.post(f"/v2/{repository}/blobs/uploads/", headers=bearer)
    assert begun.status_code == 202, begun.text
    done = http.put(
        f"{begun.headers['location']}&digest={digest(content)}", content=content,
        headers=bearer | {"Content-Type": "application/octet-stream"},
    )  # fmt: skip
    assert done.status_code == 201, done.text
    return digest(content)


def push_image(http: httpx2.Client, repository: str, token: str, size: int = 100_000) -> str:
    """Push an image of one random layer of `size` bytes, tagged `latest`; its digest."""
    layer, config = os.urandom(size), json.dumps({"architecture": "arm64", "os": "linux"}).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": CONFIG,
                "size": len(config),
                "digest": push_blob(http, repository, token, config),
            },
            "layers": [
                {
                    "mediaType": LAYER,
                    "size": len(layer),
                    "digest": push_blob(http, repository, token, layer),
                }
            ],
        }
    ).encode()
    done = http.put(
        f"/v2/{repository}/manifests/latest", content=manifest,
        headers={"Authorization": f"Bearer {token}", "Content-Type": MANIFEST},
    )  # fmt: skip
    assert done.status_code == 201, done.text
    return digest(manifest)


def pull_image(http: httpx2.Client, repository: str, token: str, reference: str) -> int:
    """Pull the manifest and all blobs, check them, and say how many bytes the layers have."""
    bearer = {"Authorization": f"Bearer {token}"}
    answer = http.get(
        f"/v2/{repository}/manifests/{reference}", headers=bearer | {"Accept": MANIFEST}
    )
    assert answer.status_code == 200, answer.text
    for each in (answer.json()["config"], *answer.json()["layers"]):
        # No redirect: devices reach the registry's public name only.
        blob = http.get(f"/v2/{repository}/blobs/{each['digest']}", headers=bearer)
        assert blob.status_code == 200, blob.text
        assert digest(blob.content) == each["digest"]
    return sum(int(each["size"]) for each in answer.json()["layers"])


def has_blob(http: httpx2.Client, repository: str, token: str, named: str) -> bool:
    answer = http.head(
        f"/v2/{repository}/blobs/{named}", headers={"Authorization": f"Bearer {token}"}
    )
    assert answer.status_code in (200, 404), answer.status_code
    return answer.status_code == 200


def manifest_of(config: bytes, layers: Sequence[bytes], kind: str = MANIFEST) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": kind,
            "config": {"mediaType": CONFIG, "size": len(config), "digest": digest(config)},
            "layers": [
                {"mediaType": LAYER, "size": len(each), "digest": digest(each)} for each in layers
            ],
        }
    ).encode()


def push_like_an_engine(
    http: httpx2.Client,
    repository: str,
    token: str,
    layers: Sequence[bytes],
    *,
    tag: str = "latest",
    mount_from: str | None = None,
    pause: Callable[[], object] = lambda: None,
) -> str:
    """Push what is not there yet, as engines do; the manifest's digest. `pause` is called between
    having found blobs and the manifest that relies on them."""
    unpacked = [gzip.decompress(each) if each[:2] == GZIP else each for each in layers]
    rootfs = {"type": "layers", "diff_ids": [digest(each) for each in unpacked]}
    config = json.dumps({"architecture": "arm64", "os": "linux", "rootfs": rootfs}).encode()
    bearer = {"Authorization": f"Bearer {token}"}
    for blob in (*layers, config):
        if has_blob(http, repository, token, digest(blob)):
            continue
        if mount_from:
            asked = f"/v2/{repository}/blobs/uploads/?mount={digest(blob)}&from={mount_from}"
            if http.post(asked, headers=bearer).status_code == 201:
                continue
        push_blob(http, repository, token, blob)
    pause()
    return put_manifest(http, repository, token, manifest_of(config, layers), tag)


def put_manifest(
    http: httpx2.Client, repository: str, token: str, content: bytes, tag: str | None = None
) -> str:
    kind = json.loads(content)["mediaType"]
    done = http.put(
        f"/v2/{repository}/manifests/{tag or digest(content)}", content=content,
        headers={"Authorization": f"Bearer {token}", "Content-Type": kind},
    )  # fmt: skip
    assert done.status_code == 201, done.text
    return digest(content)

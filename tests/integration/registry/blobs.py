"""Pushing and pulling by the registry's HTTP API
(https://distribution.github.io/distribution/spec/api/)."""

import hashlib
import json
import os

import httpx2

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
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

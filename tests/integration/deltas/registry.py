"""The real registry in its real image, and images made small that are pushed to it."""

import gzip
import hashlib
import io
import json
import tarfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import docker
import httpx2
import jwt
import zstandard
from docker.models.containers import Container

from gantry.deployment.images import build_image
from gantry.registry.config import TokenAuth, registry_config
from tests.integration.registry.blobs import CONFIG, MANIFEST, digest

LAYER = "application/vnd.docker.image.rootfs.diff.tar"
START_SECONDS = 60


def tar(files: Mapping[str, bytes], mtime: int = 1_700_000_000) -> bytes:
    """A layer's tar with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o644, mtime
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _packed(layer: bytes, how: str) -> tuple[str, bytes]:
    match how:
        case "gzip":
            return f"{LAYER}.gzip", gzip.compress(layer, 6, mtime=0)
        case "zstd":
            packed = zstandard.ZstdCompressor().compress(layer)
            return "application/vnd.oci.image.layer.v1.tar+zstd", packed
    return LAYER, layer


@dataclass
class Registry:
    """A running registry. Tokens are signed by the api's own key, as the api does."""

    container: Container
    base_url: str
    name: str
    key_pem: str
    chain: list[str]
    issuer: str
    client: httpx2.Client = field(init=False)

    def __post_init__(self) -> None:
        self.client = httpx2.Client(base_url=self.base_url, timeout=30)

    def token(self, *access: tuple[str, str], **claims: Any) -> str:
        """A token for `(repository, "pull,push")` pairs."""
        now = int(time.time())
        document = {
            "iss": self.issuer, "aud": self.name, "sub": "tests", "exp": now + 300,
            "nbf": now - 10, "iat": now, "jti": uuid.uuid4().hex,
            "access": [
                {"type": "repository", "name": name, "actions": actions.split(",")}
                for name, actions in access
            ],
        } | claims  # fmt: skip
        return jwt.encode(document, self.key_pem, "ES256", headers={"x5c": self.chain})

    def push(
        self, repository: str, layers: Sequence[bytes], how: str = "gzip", **config: Any
    ) -> str:
        """Push an image of these layer tars; its digest."""
        bearer = {"Authorization": f"Bearer {self.token((repository, 'pull,push'))}"}

        def blob(media_type: str, content: bytes) -> dict[str, Any]:
            begun = self.client.post(f"/v2/{repository}/blobs/uploads/", headers=bearer)
            assert begun.status_code == 202, begun.text
            done = self.client.put(
                f"{begun.headers['location']}&digest={digest(content)}", content=content,
                headers=bearer | {"Content-Type": "application/octet-stream"},
            )  # fmt: skip
            assert done.status_code == 201, done.text
            return {"mediaType": media_type, "size": len(content), "digest": digest(content)}

        packed = [blob(*_packed(each, how)) for each in layers]
        document = {
            "architecture": "arm64", "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
        } | config  # fmt: skip
        manifest = {
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": blob(CONFIG, json.dumps(document).encode()), "layers": packed,
        }  # fmt: skip
        return self.put_manifest(repository, manifest)

    def config_of(self, repository: str, image: str) -> str:
        """The digest of an image's configuration."""
        bearer = {"Authorization": f"Bearer {self.token((repository, 'pull'))}"}
        headers = bearer | {"Accept": MANIFEST}
        found = self.client.get(f"/v2/{repository}/manifests/{image}", headers=headers)
        return str(found.json()["config"]["digest"])

    def put_manifest(self, repository: str, manifest: Mapping[str, Any]) -> str:
        """Push a manifest, under its digest alone."""
        content = json.dumps(manifest).encode()
        done = self.client.put(
            f"/v2/{repository}/manifests/{digest(content)}", content=content,
            headers={
                "Authorization": f"Bearer {self.token((repository, 'pull,push'))}",
                "Content-Type": str(manifest["mediaType"]),
            },
        )  # fmt: skip
        assert done.status_code == 201, done.text
        return digest(content)

    def remove(self, repository: str, image: str) -> None:
        """Remove an image's manifest."""
        bearer = {"Authorization": f"Bearer {self.token((repository, 'delete,*'))}"}
        done = self.client.delete(f"/v2/{repository}/manifests/{image}", headers=bearer)
        assert done.status_code == 202, done.text

    def spoil(self, blob: str, content: bytes) -> None:
        """Write other bytes into the storage under this digest."""
        name = blob.partition(":")[2]
        path = f"var/lib/registry/docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"
        self.container.put_archive("/", archive({path: content}, owner=10003))


@contextmanager
def started(
    client: docker.DockerClient, auth: TokenAuth, key_pem: str, certificate_pem: str, chain: str
) -> Iterator[Registry]:
    """A registry as the fleet has it: unprivileged, configuration by upload."""
    container = client.containers.create(
        build_image("registry", lambda _: None, client=client).tag,
        name=f"deltas-test-registry-{uuid.uuid4().hex[:8]}",
        user="10003:10003",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges:true"],
        ports={"5000/tcp": ("127.0.0.1", 0)},
    )
    try:
        files = {
            "etc/gantry/registry.yml": registry_config(auth, "http-secret").encode(),
            "etc/gantry/token.crt": certificate_pem.encode(),
        }
        container.put_archive("/", archive(files))
        container.start()
        container.reload()
        bindings = container.ports["5000/tcp"]
        assert bindings
        url = f"http://127.0.0.1:{bindings[0]['HostPort']}"
        made = Registry(container, url, auth.service, key_pem, [chain], auth.issuer)
        try:
            _wait(made)
            yield made
        finally:
            made.client.close()
    finally:
        container.remove(force=True, v=True)


def archive(files: Mapping[str, bytes], owner: int = 0) -> bytes:
    """A tar for `put_archive`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid, member.gid = len(content), 0o444, owner, owner
            made.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _wait(registry: Registry) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            registry.client.get("/")
            return
        except httpx2.TransportError:
            assert time.monotonic() < deadline, registry.container.logs().decode()
            time.sleep(0.1)


def text(seed: str, size: int) -> bytes:
    """Bytes that compress to a half about, always the same for a seed."""
    out: list[bytes] = []
    for number in range(size // 128 + 1):
        out.append(hashlib.sha512(f"{seed}{number}".encode()).hexdigest().encode())
    return b"\n".join(out)[:size]

"""The doorway to registries: an image's documents, and what it weighs, before it is downloaded.

Requests: https://distribution.github.io/distribution/spec/api/ (manifests, blobs) and
https://distribution.github.io/distribution/spec/auth/token/.
"""

import hashlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from gantry.supervisor import wire
from gantry.supervisor.cloud import http_client
from gantry.supervisor.engine import Credentials
from gantry.supervisor.room import Layer

_LIMIT = 4 * 1024**2  # bytes of a manifest or an image's configuration
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
# What `uname` calls a machine, and what images do.
_ARCHITECTURES = {"aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "x86_64": "amd64"}


_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class RegistryError(Exception):
    """The registry did not say what was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of a blob: its media type, digest and size in bytes."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageDocuments:
    """An image's manifest, for one platform, and its configuration: verified by digest where the
    image is named by digest. `layers` and `diff_ids` are as many, lowest first."""

    media_type: str
    config: Descriptor
    configuration: bytes
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[str, ...]


async def image_layers(
    reference: str, credentials: Credentials | None, context: ssl.SSLContext, machine: str
) -> tuple[Layer, ...]:
    """The layers of an image, lowest first. `machine` picks one of an image of several platforms.

    Raises:
        RegistryError: no answer, a refusal, or no such thing.
    """
    found = await image_documents(reference, credentials, context, machine)
    sizes = [each.size for each in found.layers]
    return tuple(Layer(name, size) for name, size in zip(found.diff_ids, sizes, strict=True))


async def image_documents(
    reference: str, credentials: Credentials | None, context: ssl.SSLContext, machine: str
) -> ImageDocuments:
    """Manifest and configuration of an image. `machine` picks one of several platforms.

    Raises:
        RegistryError: no answer, a refusal, no such thing, or another than its digest says.
    """
    server, _, path = reference.partition("/")
    name, at, digest = path.partition("@")
    if not at:
        name, _, digest = path.rpartition(":")
    schemes = ["https"]
    if server.partition(":")[0] in ("127.0.0.1", "localhost"):
        schemes.append("http")  # as the engine does
    async with http_client(context, connections=1) as client:
        client.follow_redirects = True
        for scheme in schemes:
            source = _Source(client, f"{scheme}://{server}/v2/{name}", credentials)
            try:
                return await source.documents(digest, machine)
            except (wire.WireError, ValueError, httpx2.InvalidURL) as error:
                raise RegistryError(f"registry {server}: {error}") from error
            except (httpx2.HTTPError, OSError) as error:
                if scheme == schemes[-1]:
                    reason = str(error) or type(error).__name__
                    raise RegistryError(f"registry {server}: {reason}") from error
    raise RegistryError(f"registry {server} was not asked")


class _Source:
    """One repository of a registry."""

    def __init__(
        self, client: httpx2.AsyncClient, url: str, credentials: Credentials | None
    ) -> None:
        self._client = client
        self._url = url
        self._credentials = credentials
        self._headers = {"Accept": ", ".join(_MANIFESTS)}

    async def documents(self, digest: str, machine: str) -> ImageDocuments:
        manifest = wire.parse(await self._content("manifests", digest), f"manifests/{digest}")
        if "manifests" in manifest:
            digest = _of_platform(manifest, machine)
            manifest = wire.parse(await self._content("manifests", digest), f"manifests/{digest}")
        layers = tuple(_descriptor(each, "layer") for each in _objects(manifest, "layers"))
        config = _descriptor(wire.mapping(manifest.get("config"), "manifest: config"), "config")
        content = await self._content("blobs", config.digest)
        document = wire.parse(content, f"blobs/{config.digest}")
        names = wire.mapping(document.get("rootfs"), "rootfs").get("diff_ids")
        if not isinstance(names, list) or len(names) != len(layers):
            raise RegistryError(f"{self._url}: {len(layers)} layers, but not as many names of them")
        media_type = str(manifest.get("mediaType") or _MANIFESTS[0])
        return ImageDocuments(media_type, config, content, layers, tuple(map(str, names)))

    async def _content(self, kind: str, digest: str) -> bytes:
        url = f"{self._url}/{kind}/{digest}"
        status, headers, content = await self._get(url, self._headers)
        if status == 401:
            await self._authorize(headers.get("WWW-Authenticate", ""))
            status, headers, content = await self._get(url, self._headers)
        if status != 200:
            raise RegistryError(f"{url}: HTTP {status}")
        is_digest = _DIGEST.fullmatch(digest) is not None
        if is_digest and f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise RegistryError(f"{url}: its content is another than its digest says")
        return content

    async def _authorize(self, challenge: str) -> None:
        """Get a token as the registry says: `Bearer realm="…",service="…",scope="…"`."""
        scheme, _, rest = challenge.partition(" ")
        fields = dict(each.strip().partition("=")[::2] for each in rest.split(","))
        asked = {key: value.strip('"') for key, value in fields.items()}
        realm = asked.pop("realm", "")
        given = self._credentials
        if scheme.lower() != "bearer" or not realm.startswith("https://") or given is None:
            raise RegistryError(f"{self._url}: HTTP 401")
        login = httpx2.BasicAuth(given.username, given.password)
        status, _, content = await self._get(realm, {}, params=asked, auth=login)
        document = wire.parse(content, "token") if status == 200 else {}
        token = document.get("token") or document.get("access_token")
        if not token:
            raise RegistryError(f"{realm}: no token: HTTP {status}")
        self._headers = {**self._headers, "Authorization": f"Bearer {token}"}

    async def _get(
        self, url: str, headers: Mapping[str, str], **how: Any
    ) -> tuple[int, httpx2.Headers, bytes]:
        async with self._client.stream("GET", url, headers=headers, **how) as answer:
            content = b""
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > _LIMIT:
                    raise RegistryError(f"{url}: more than {_LIMIT} bytes")
            return answer.status_code, answer.headers, content


def _descriptor(document: Mapping[str, Any], what: str) -> Descriptor:
    return Descriptor(
        str(document.get("mediaType") or ""),
        wire.text(document.get("digest"), what),
        wire.number(document.get("size"), f"{what}: size"),
    )


def _of_platform(index: Mapping[str, Any], machine: str) -> str:
    """The digest of the manifest for this machine."""
    wanted = _ARCHITECTURES.get(machine, machine)
    for each in _objects(index, "manifests"):
        platform = wire.mapping(each.get("platform"), "manifest: platform")
        if platform.get("architecture") == wanted:
            return wire.text(each.get("digest"), "manifest: digest")
    raise RegistryError(f"the image is for other machines than {machine}")


def _objects(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects in a document."""
    found = document.get(name)
    if not isinstance(found, list):
        raise wire.WireError(f"{name} is {found!r:.80}: a list is expected")
    return [wire.mapping(each, name) for each in found]

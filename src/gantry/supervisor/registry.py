"""The doorway to registries: how much an image weighs, before the engine downloads it.

Requests: https://distribution.github.io/distribution/spec/api/ (manifests, blobs) and
https://distribution.github.io/distribution/spec/auth/token/.
"""

import ssl
from collections.abc import Mapping
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


class RegistryError(Exception):
    """The registry did not say what was asked; the message says why."""


async def image_layers(
    reference: str, credentials: Credentials | None, context: ssl.SSLContext, machine: str
) -> tuple[Layer, ...]:
    """The layers of an image, lowest first. `machine` picks one of an image of several platforms.

    Raises:
        RegistryError: no answer, a refusal, or no such thing.
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
                return await source.layers(digest, machine)
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

    async def layers(self, digest: str, machine: str) -> tuple[Layer, ...]:
        manifest = await self._document(f"manifests/{digest}")
        if "manifests" in manifest:
            manifest = await self._document(f"manifests/{_of_platform(manifest, machine)}")
        sizes = [wire.number(e.get("size"), "layer: size") for e in _objects(manifest, "layers")]
        config = wire.mapping(manifest.get("config"), "manifest: config")
        content = await self._document(f"blobs/{wire.text(config.get('digest'), 'config')}")
        names = wire.mapping(content.get("rootfs"), "rootfs").get("diff_ids")
        if not isinstance(names, list) or len(names) != len(sizes):
            raise RegistryError(f"{self._url}: {len(sizes)} layers, but not as many names of them")
        return tuple(Layer(str(name), size) for name, size in zip(names, sizes, strict=True))

    async def _document(self, path: str) -> dict[str, Any]:
        status, headers, content = await self._get(f"{self._url}/{path}", self._headers)
        if status == 401:
            await self._authorize(headers.get("WWW-Authenticate", ""))
            status, headers, content = await self._get(f"{self._url}/{path}", self._headers)
        if status != 200:
            raise RegistryError(f"{self._url}/{path}: HTTP {status}")
        return wire.parse(content, path)

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

"""The doorway to the builder's own Docker Engine, by its HTTP API on a unix socket.

https://docs.docker.com/reference/api/engine/version/v1.45/
"""

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

API = "/v1.44"
_TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
_STREAM_TIMEOUT = httpx2.Timeout(None, connect=5.0)


class EngineError(Exception):
    """The engine refused or is not there; holds its own words."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the engine. `size` is of its unpacked layers, in bytes."""

    id: str
    size: int
    labels: dict[str, str]


# What is held while something is pushed to a repository of the registry.
Pushing = Callable[[str], AbstractAsyncContextManager[None]]


def nothing_held(_: str) -> AbstractAsyncContextManager[None]:
    """For a registry from which nothing is ever removed."""
    return nullcontext()


class Engine:
    """An engine at a socket; `username` and `password` are what it shows to `registry`."""

    def __init__(
        self,
        socket: Path,
        registry: str,
        username: str,
        password: str,
        pushing: Pushing = nothing_held,
    ) -> None:
        self._pushing = pushing
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(socket)),
            base_url="http://engine",
            timeout=_TIMEOUT,
        )
        # In a header of a local socket: no file, no command line, no environment.
        identity = {"username": username, "password": password, "serveraddress": registry}
        self._auth = base64.urlsafe_b64encode(json.dumps(identity).encode()).decode()

    async def close(self) -> None:
        await self._client.aclose()

    async def ping(self) -> bool:
        """Whether the engine answers."""
        try:
            return (await self._client.get("/_ping", timeout=2.0)).status_code == 200
        except httpx2.HTTPError:
            return False

    async def image(self, name: str) -> Image | None:
        """The image with this name or id, or None."""
        response = await self._request("GET", f"/images/{quote(name, safe='')}/json", missing=True)
        if response is None:
            return None
        fields = response.json()
        labels = (fields.get("Config") or {}).get("Labels") or {}
        return Image(id=fields["Id"], size=int(fields.get("Size", 0)), labels=labels)

    async def load(self, archive: AsyncIterator[bytes]) -> None:
        """Load an uncompressed image archive, as `docker save` writes it."""
        async for _ in self._events("POST", "/images/load", params={"quiet": "1"}, body=archive):
            pass

    async def tag(self, image: str, reference: str) -> None:
        """Give an image one more name, `repository:tag`."""
        repository, _, tag = reference.rpartition(":")
        await self._request(
            "POST", f"/images/{quote(image, safe='')}/tag", params={"repo": repository, "tag": tag}
        )

    async def untag(self, reference: str) -> None:
        """Take a name away; an image without names is removed. Nothing when there is none."""
        await self._request(
            "DELETE", f"/images/{quote(reference, safe='')}", missing=True, busy=True
        )

    async def tags(self, repository: str) -> list[str]:
        """All names in a repository, newest first."""
        filters = json.dumps({"reference": [repository]})
        response = await self._request("GET", "/images/json", params={"filters": filters})
        assert response is not None  # noqa: S101 - only `missing` gives None
        images = sorted(response.json(), key=lambda each: each["Created"], reverse=True)
        prefix = f"{repository}:"
        return [tag for each in images for tag in each["RepoTags"] or () if tag.startswith(prefix)]

    async def push(self, reference: str, progress: Callable[[str], None]) -> str:
        """Push `repository:tag`; return the manifest's digest as the registry gave it.

        Raises:
            EngineError: the registry refused or is out of reach; names it.
        """
        repository = reference.partition("/")[2].rpartition(":")[0]
        try:
            async with self._pushing(repository):
                digest = await self._push(reference, progress)
        except EngineError as error:
            registry = reference.partition("/")[0]
            raise EngineError(f"{registry} did not take the image: {error}") from error
        if not digest:
            raise EngineError(f"the registry gave no digest for {reference}")
        return digest

    async def _push(self, reference: str, progress: Callable[[str], None]) -> str:
        repository, _, tag = reference.rpartition(":")
        digest = ""
        events = self._events(
            "POST",
            f"/images/{quote(repository, safe='')}/push",
            params={"tag": tag},
            headers={"X-Registry-Auth": self._auth},
        )
        async for event in events:
            status, layer = event.get("status", ""), event.get("id")
            if layer and status in {"Pushed", "Layer already exists"}:
                progress(f"layer {layer}: {status.lower()}")
            digest = (event.get("aux") or {}).get("Digest") or digest
        return digest

    async def prune_cache(self, keep_bytes: int) -> int:
        """Remove the layer cache that was used longest ago; return the bytes that were freed."""
        response = await self._request(
            "POST",
            "/build/prune",
            params={"all": "1", "keep-storage": str(keep_bytes)},
            patient=True,
        )
        assert response is not None  # noqa: S101 - only `missing` gives None
        return int(response.json().get("SpaceReclaimed") or 0)

    async def prune_contexts(self) -> None:
        """Remove pushed trees, which BuildKit keeps as part of its cache and never uses again."""
        filters = json.dumps({"type": ["source.local"]})
        params = {"all": "1", "filters": filters}
        await self._request("POST", "/build/prune", params=params, patient=True)

    async def prune_images(self) -> None:
        """Remove images without a name."""
        filters = json.dumps({"dangling": ["true"]})
        await self._request("POST", "/images/prune", params={"filters": filters}, patient=True)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        missing: bool = False,
        busy: bool = False,
        patient: bool = False,
    ) -> httpx2.Response | None:
        try:
            response = await self._client.request(
                method,
                f"{API}{path}",
                params=params,
                timeout=_STREAM_TIMEOUT if patient else _TIMEOUT,
            )
        except httpx2.HTTPError as error:
            raise EngineError(f"the builder's engine does not answer: {error!r}") from error
        if (missing and response.status_code == 404) or (busy and response.status_code == 409):
            return None
        if response.is_error:
            raise EngineError(_message(response.content))
        return response

    async def _events(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str],
        headers: dict[str, str] | None = None,
        body: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """The JSON objects of a stream; one that tells of an error is raised."""
        try:
            async with self._client.stream(
                method,
                f"{API}{path}",
                params=params,
                headers=headers,
                content=body,
                timeout=_STREAM_TIMEOUT,
            ) as response:
                if response.is_error:
                    raise EngineError(_message(await response.aread()))
                async for line in response.aiter_lines():
                    if not line.strip():
                        continue
                    event = json.loads(line)
                    if "error" in event:
                        raise EngineError(str(event["error"]))
                    yield event
        except httpx2.HTTPError as error:
            raise EngineError(f"the builder's engine broke off: {error!r}") from error


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (KeyError, TypeError, ValueError):
        return content.decode("utf-8", "replace")[:500]

"""The one doorway to the container engine: the Docker Engine API over its unix socket.

Paths and bodies: https://docs.docker.com/reference/api/engine/version/v1.41/ and later. The path
carries no version, so that the engine's own is spoken.
"""

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from gantry.contracts.bundle import local_tag

# Layers of hundreds of megabytes are unpacked onto slow cards without a word in between.
PULL_SILENCE = 900.0


class EngineError(Exception):
    """The engine refused or did not answer; `status` is its HTTP status, None without answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the engine shows to a registry."""

    username: str
    password: str
    server: str

    def header(self) -> str:
        """The X-Registry-Auth header: base64url of JSON."""
        document = {
            "username": self.username,
            "password": self.password,
            "serveraddress": self.server,
        }
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode()


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What the engine says of its host."""

    operating_system: str
    architecture: str
    bridge_address: str
    storage_driver: str = ""
    os_version: str = ""
    kernel_version: str = ""


class Engine:
    """A client of one engine."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._client = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(
                uds=socket,
                verify=False,
                # Each followed log holds a connection; idle ones are not worth their memory.
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=1),
            ),
            base_url="http://engine",
            timeout=httpx2.Timeout(60.0, connect=5.0),
        )

    async def close(self) -> None:
        """Close every connection."""
        await self._client.aclose()

    async def info(self) -> EngineInfo:
        """Facts about the host, and its address on the engine's default bridge."""
        document = await self._json("GET", "/info")
        bridge = await self._json("GET", "/networks/bridge")
        pools = (bridge.get("IPAM") or {}).get("Config") or [{}]
        return EngineInfo(
            operating_system=str(document.get("OperatingSystem", "")),
            architecture=str(document.get("Architecture", "")),
            bridge_address=str(pools[0].get("Gateway") or "172.17.0.1"),
            storage_driver=str(document.get("Driver", "")),
            os_version=str(document.get("OSVersion", "")),
            kernel_version=str(document.get("KernelVersion", "")),
        )

    async def containers(self) -> list[dict[str, Any]]:
        """All containers, of whomever."""
        found: list[dict[str, Any]] = await self._json("GET", "/containers/json", {"all": "1"})
        return found

    async def images(self) -> list[dict[str, Any]]:
        """All images, with their digests."""
        found: list[dict[str, Any]] = await self._json("GET", "/images/json", {"digests": "1"})
        return found

    async def layers(self, image: str) -> tuple[str, ...]:
        """The layers of an image that is here, lowest first."""
        document = await self._json("GET", f"/images/{image}/json")
        return tuple((document.get("RootFS") or {}).get("Layers") or ())

    async def networks(self, label: str) -> list[dict[str, Any]]:
        """Networks with this label."""
        filters = json.dumps({"label": [label]})
        found: list[dict[str, Any]] = await self._json("GET", "/networks", {"filters": filters})
        return found

    async def volumes(self) -> list[str]:
        """Names of all volumes."""
        document = await self._json("GET", "/volumes")
        return [str(each["Name"]) for each in document.get("Volumes") or []]

    async def labelled_volumes(self, label: str) -> list[dict[str, Any]]:
        """Volumes with this label."""
        parameters = {"filters": json.dumps({"label": [label]})}
        document = await self._json("GET", "/volumes", parameters)
        return list(document.get("Volumes") or [])

    async def create_network(self, body: Mapping[str, Any]) -> None:
        await self._json("POST", "/networks/create", body=body)

    async def remove_network(self, network_id: str) -> None:
        await self._json("DELETE", f"/networks/{network_id}", missing_is_fine=True)

    async def connect_network(self, name: str, container: str, settings: Mapping[str, Any]) -> None:
        body = {"Container": container, "EndpointConfig": settings}
        await self._json("POST", f"/networks/{name}/connect", body=body)

    async def create_volume(self, body: Mapping[str, Any]) -> None:
        await self._json("POST", "/volumes/create", body=body)

    async def remove_volume(self, name: str) -> None:
        await self._json("DELETE", f"/volumes/{name}", missing_is_fine=True)

    async def create_container(self, name: str, body: Mapping[str, Any]) -> str:
        """The id of the new container. An image that came without a registry has another name."""
        try:
            document = await self._json("POST", "/containers/create", {"name": name}, body)
        except EngineError as error:
            tag = local_tag(str(body.get("Image")))
            if error.status != 404 or tag is None:
                raise
            body = {**body, "Image": tag}
            document = await self._json("POST", "/containers/create", {"name": name}, body)
        return str(document["Id"])

    async def start_container(self, container: str) -> None:
        await self._json("POST", f"/containers/{container}/start")

    async def stop_container(self, container: str) -> None:
        """Stop it, within the time that it was created with; gone already is fine."""
        path = f"/containers/{container}/stop"
        await self._json("POST", path, missing_is_fine=True, seconds=None)

    async def remove_container(self, container: str) -> None:
        parameters = {"force": "1", "v": "1"}
        path = f"/containers/{container}"
        await self._json("DELETE", path, parameters, missing_is_fine=True)

    async def rename_container(self, container: str, name: str) -> None:
        await self._json("POST", f"/containers/{container}/rename", {"name": name})

    async def inspect_container(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._json("GET", f"/containers/{container}/json")
        return found

    async def remove_image(self, reference: str) -> None:
        for name in (reference, local_tag(reference)):
            if name is not None:
                await self._json("DELETE", f"/images/{name}", missing_is_fine=True)

    async def remove_tag(self, tag: str) -> None:
        """Take this one name from an image; the image goes with its last one."""
        await self._json("DELETE", f"/images/{tag}", missing_is_fine=True)

    async def tag_image(self, image: str, tag: str) -> None:
        """Give an image one more name, of the form `repository:tag`."""
        repository, _, name = tag.rpartition(":")
        await self._json("POST", f"/images/{image}/tag", {"repo": repository, "tag": name})

    async def inspect_image(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._json("GET", f"/images/{image}/json")
        return found

    async def pull(
        self, reference: str, credentials: Credentials | None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Download an image; yields the engine's progress messages as they come.

        Raises:
            EngineError: the download failed; the message is the engine's.
        """
        name, at, digest = reference.partition("@")
        if not at:
            name, _, digest = reference.rpartition(":")
        headers = {"X-Registry-Auth": credentials.header()} if credentials else {}
        parameters = {"fromImage": name, "tag": digest}
        timeout = httpx2.Timeout(PULL_SILENCE, connect=5.0)
        async with self._stream(
            "POST", "/images/create", parameters, headers=headers, timeout=timeout
        ) as answer:
            async for message in _json_lines(answer):
                if "error" in message:
                    raise EngineError(str(message["error"]))
                yield message

    async def events(
        self, label: str, kinds: Iterable[str]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Events of containers with this label. The first yield is empty: the stream is open."""
        filters = {"type": ["container"], "label": [label], "event": list(kinds)}
        parameters = {"filters": json.dumps(filters)}
        timeout = httpx2.Timeout(None, connect=5.0)
        async with self._stream("GET", "/events", parameters, timeout=timeout) as answer:
            yield {}
            async for message in _json_lines(answer):
                yield message

    async def logs(self, container: str, since: str) -> AsyncGenerator[bytes, None]:
        """The container's output as raw pieces of the engine's stream, followed until it stops.

        `since` is in seconds with nanoseconds after the point.
        """
        parameters = {
            "follow": "1",
            "stdout": "1",
            "stderr": "1",
            "timestamps": "1",
            "since": since,
        }
        timeout = httpx2.Timeout(None, connect=5.0)
        path = f"/containers/{container}/logs"
        async with self._stream("GET", path, parameters, timeout=timeout) as answer:
            async for piece in answer.aiter_raw():
                yield piece

    async def _json(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        missing_is_fine: bool = False,
        seconds: float | None = 60.0,
    ) -> Any:
        how: dict[str, Any] = {"timeout": httpx2.Timeout(seconds, connect=5.0)}
        if body is not None:
            how["json"] = dict(body)
        try:
            async with self._stream(method, path, parameters, **how) as answer:
                content = await answer.aread()
        except EngineError as error:
            if missing_is_fine and error.status == 404:
                return {}
            raise
        try:
            return json.loads(content) if content else {}
        except ValueError as error:
            raise EngineError(f"{method} {path}: the engine's answer is no JSON") from error

    @asynccontextmanager
    async def _stream(
        self, method: str, path: str, parameters: Mapping[str, str] | None = None, **how: Any
    ) -> AsyncIterator[httpx2.Response]:
        try:
            async with self._client.stream(method, path, params=parameters, **how) as answer:
                if answer.status_code >= 400:
                    content = await answer.aread()
                    raise EngineError(_message(content), answer.status_code)
                yield answer
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise EngineError(f"engine at {self._socket}: {method} {path}: {reason}") from error


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content[:300].decode(errors="replace")


async def _json_lines(answer: httpx2.Response) -> AsyncGenerator[dict[str, Any], None]:
    """Objects of a stream of JSON, one a line."""
    rest = b""
    async for piece in answer.aiter_raw():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line)

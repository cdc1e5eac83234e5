"""The doorway to the fleet's api and its log service, over HTTPS.

Endpoints and bodies are the family's (https://docs.balena.io/reference/api/).
"""

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import httpx2

from gantry.supervisor import VERSION, wire
from gantry.supervisor.config import DeviceConfig

POLL_TIMEOUT = 59.0
# The api sends a comment every 15 s; three of them missing means that nobody is there.
EVENTS_SILENCE = 45.0
# A hundred services with a hundred long variables each are less.
BODY_LIMIT = 16 * 1024**2
# A server, or a clock, that is out of its mind is not obeyed for longer than this, in seconds.
_LONGEST_RETRY_AFTER = 3600.0


def http_client(context: ssl.SSLContext, connections: int) -> httpx2.AsyncClient:
    """How the supervisor speaks HTTP, over at most so many connections at once."""
    return httpx2.AsyncClient(
        verify=context,
        headers={"User-Agent": f"gantry-supervisor/{VERSION}"},
        timeout=httpx2.Timeout(30.0, connect=15.0),
        limits=httpx2.Limits(max_connections=connections, keepalive_expiry=65.0),
    )


class CloudError(Exception):
    """The api could not be reached or refused.

    `status` is its HTTP status, None when there was no answer; `retry_after` what it asked for, in
    seconds.
    """

    def __init__(
        self, message: str, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Registration:
    """The api's answer to a device that registered."""

    device_id: int
    uuid: str
    device_key: str


@dataclass(frozen=True, slots=True)
class TargetAnswer:
    """A target state as the api sent it, with its ETag."""

    document: dict[str, Any]
    etag: str | None


class Cloud:
    """A client of one api, for one device. Keys go in headers and never into messages.

    Where many devices are in one process, `client` is what they share; whoever made it closes it.
    """

    def __init__(
        self,
        config: DeviceConfig,
        context: ssl.SSLContext,
        client: httpx2.AsyncClient | None = None,
    ) -> None:
        if config.api_endpoint is None:
            raise CloudError("config.json has no apiEndpoint: this device is not managed")
        self._api = config.api_endpoint
        self._logs = config.logs_endpoint or config.api_endpoint
        self._config = config
        self._is_shared = client is not None
        self.request_seconds = POLL_TIMEOUT
        self._client = client or http_client(context, connections=8)

    async def close(self) -> None:
        """Close every connection that is this device's own."""
        if not self._is_shared:
            await self._client.aclose()

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._config.device_key or ''}"}

    async def register(self, body: Mapping[str, Any], key: str) -> Registration:
        """`POST /device/register` with the provisioning key.

        Raises:
            CloudError: no answer, or a refusal.
        """
        headers = {"Authorization": f"Bearer {key}"}
        url = f"{self._api}/device/register"
        async with self._exchange("POST", url, headers=headers, json=dict(body)) as answer:
            document = wire.parse(await _whole(answer), "answer of /device/register")
            return Registration(
                device_id=wire.number(document.get("id"), "device/register: id"),
                uuid=wire.text(document.get("uuid"), "device/register: uuid"),
                device_key=wire.text(document.get("api_key"), "device/register: api_key"),
            )

    async def target(self, etag: str | None) -> TargetAnswer | None:
        """The target state; None when it is still the one with this ETag.

        Raises:
            CloudError: no answer, or a refusal.
        """
        headers = self._bearer() | ({"If-None-Match": etag} if etag else {})
        url = f"{self._api}/device/v3/{self._config.uuid}/state"
        async with self._exchange(
            "GET", url, headers=headers, timeout=self.request_seconds
        ) as answer:
            if answer.status_code == 304:
                return None
            document = wire.parse(await _whole(answer), "the target state")
            return TargetAnswer(document, answer.headers.get("ETag"))

    async def report(self, state: Mapping[str, Any]) -> None:
        """`PATCH /device/v3/state` with what changed of this device.

        Raises:
            CloudError: no answer, or a refusal.
        """
        body = {str(self._config.uuid): dict(state)}
        url = f"{self._api}/device/v3/state"
        async with self._exchange("PATCH", url, headers=self._bearer(), json=body):
            return

    async def tags(self) -> list[dict[str, Any]]:
        """The tags of this device: `id`, `name` and `value` of each.

        Raises:
            CloudError: no answer, or a refusal.
        """
        device = f"device/uuid eq '{self._config.uuid}'"
        if self._config.device_id is not None:
            device = f"device eq {self._config.device_id}"
        query = {"$select": "id,tag_key,value", "$filter": device}
        url = f"{self._api}/v7/device_tag"
        async with self._exchange("GET", url, headers=self._bearer(), params=query) as answer:
            document = wire.parse(await _whole(answer), "answer of /v7/device_tag")
        found = [wire.mapping(each, "device_tag") for each in document.get("d") or ()]
        return [
            {"id": each.get("id"), "name": each.get("tag_key"), "value": each.get("value")}
            for each in found
        ]

    async def set_tags(self, tags: Mapping[str, str]) -> None:
        """`PATCH /device/v3/tags`.

        Raises:
            CloudError: no answer, or a refusal.
        """
        body = {str(self._config.uuid): dict(tags)}
        url = f"{self._api}/device/v3/tags"
        async with self._exchange("PATCH", url, headers=self._bearer(), json=body):
            return

    async def pin(self, release: int) -> None:
        """Have this device pinned to a release of its fleet, by the release's number.

        Raises:
            CloudError: no answer, or a refusal.
        """
        url = f"{self._api}/v7/device(uuid='{self._config.uuid}')"
        body = {"is_pinned_on__release": release}
        async with self._exchange("PATCH", url, headers=self._bearer(), json=body):
            return

    async def events(self) -> AsyncGenerator[str | None, None]:
        """ETags of new targets as the api announces them; the first None says: connected.

        Raises:
            CloudError: the stream ended or was refused.
        """
        timeout = httpx2.Timeout(EVENTS_SILENCE, connect=15.0)
        headers = self._bearer() | {"Accept": "text/event-stream"}
        url = f"{self._api}/device/v3/{self._config.uuid}/events"
        async with self._exchange("GET", url, headers=headers, timeout=timeout) as answer:
            yield None
            event = ""
            async for line in answer.aiter_lines():
                if line.startswith("event:"):
                    event = line[6:].strip()
                elif line.startswith("data:") and event == "target":
                    yield _announced(line[5:])
                elif not line:
                    event = ""
        raise CloudError("the api closed the event stream")

    async def send_logs(self, stream: AsyncIterator[bytes]) -> None:
        """`POST /device/v2/:uuid/log-stream`: a gzip stream of NDJSON. It returns when the log
        service has confirmed all of it.

        Raises:
            CloudError: it has not; the lines are to be sent again.
        """
        headers = self._bearer() | {
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": "gzip",
        }
        url = f"{self._logs}/device/v2/{self._config.uuid}/log-stream"
        async with self._exchange("POST", url, headers=headers, content=stream):
            return

    @asynccontextmanager
    async def _exchange(self, method: str, url: str, **how: Any) -> AsyncIterator[httpx2.Response]:
        """An answer that is not an error; its body is not read yet.

        Raises:
            CloudError: everything else.
        """
        try:
            async with self._client.stream(method, url, **how) as answer:
                if answer.status_code >= 400:
                    body = (await _whole(answer))[:300].decode(errors="replace")
                    raise CloudError(
                        f"{method} {url}: {answer.status_code} {_sentence(body)}",
                        answer.status_code,
                        _retry_after(answer.headers.get("Retry-After")),
                    )
                yield answer
        except (httpx2.HTTPError, httpx2.StreamError, ssl.SSLError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise CloudError(f"{method} {url}: {reason}") from error
        except wire.WireError as error:
            raise CloudError(f"{method} {url}: {error}") from error


async def _whole(answer: httpx2.Response) -> bytes:
    """The body, which must not fill the device's memory.

    Raises:
        CloudError: it is larger than any that is meant.
    """
    content = bytearray()
    async for piece in answer.aiter_bytes():
        content += piece
        if len(content) > BODY_LIMIT:
            raise CloudError(f"{answer.url} answered with more than {BODY_LIMIT // 1024**2} MiB")
    return bytes(content)


def _announced(data: str) -> str | None:
    """The ETag in an event's data; None when it has none, which still means a change."""
    try:
        etag = json.loads(data).get("etag")
    except (ValueError, AttributeError, RecursionError):
        return None
    return etag if isinstance(etag, str) else None


def _sentence(body: str) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.strip()


def _retry_after(value: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110, 10.2.3: seconds or a date)."""
    if not value:
        return None
    if value.isdecimal():
        return min(float(value), _LONGEST_RETRY_AFTER)
    try:
        seconds = parsedate_to_datetime(value).timestamp() - time()
        return min(max(0.0, seconds), _LONGEST_RETRY_AFTER)
    except ValueError:
        return None

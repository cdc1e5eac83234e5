"""The doorway to a device's supervisor: the family's HTTP API on port 48484."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import httpx2

from gantry.client.log_line import LogLine, read_line
from gantry.contracts.device_types import (
    Architecture,
    DeviceType,
    UnknownDeviceTypeError,
    device_type,
)
from gantry.local.errors import DeviceUnreachableError, LocalError

PORT = 48484
# The longest silence of a log stream that is believed; the device may have lost its power.
_SILENCE = 3600.0


class DeviceApi:
    """A client of one supervisor."""

    def __init__(self, host: str, port: int = PORT) -> None:
        self._url = f"http://{bracketed(host)}:{port}"
        self._client = httpx2.Client(
            base_url=self._url, timeout=httpx2.Timeout(30.0, connect=10.0), trust_env=False
        )

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def device_type(self) -> DeviceType:
        """What the device is.

        Raises:
            LocalError: it is not in local mode.
            DeviceUnreachableError: it does not answer.
        """
        info = self._ask("GET", "/v2/local/device-info").get("info") or {}
        slug = str(info.get("deviceType", ""))
        try:
            return device_type(slug)
        except UnknownDeviceTypeError:
            with suppress(ValueError):
                return DeviceType(slug, slug, Architecture(str(info.get("arch"))))
            raise LocalError(
                f"{self._url} is a {slug or 'device of no type'} of architecture "
                f"{info.get('arch')!r}, which nothing is built for"
            ) from None

    def is_well(self) -> bool:
        """Whether it answers, and says of itself that it is healthy."""
        try:
            return self._client.get("/v1/healthy").status_code == 200
        except (httpx2.HTTPError, OSError):
            return False

    def target_state(self) -> dict[str, Any]:
        """The target that the device follows."""
        return dict(self._ask("GET", "/v2/local/target-state").get("state") or {})

    def set_target_state(self, state: Mapping[str, Any]) -> None:
        """Have it follow this one."""
        self._ask("POST", "/v2/local/target-state", state)

    def logs(self) -> Iterator[LogLine]:
        """Lines as they come, until the connection ends.

        Raises:
            DeviceUnreachableError: the device does not answer, or not with a log.
        """
        timeout = httpx2.Timeout(_SILENCE, connect=10.0)
        try:
            with self._client.stream("GET", "/v2/local/logs", timeout=timeout) as answer:
                if answer.status_code != 200:
                    raise DeviceUnreachableError(
                        f"{self._url} gives no log: it says {answer.status_code}"
                    )
                for line in answer.iter_lines():
                    if line.strip():
                        yield _log_line(line)
        except (httpx2.HTTPError, httpx2.StreamError, OSError) as error:
            raise DeviceUnreachableError(f"{self._url}: {_reason(error)}") from error

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        try:
            answer = self._client.request(method, path, json=body)
        except (httpx2.HTTPError, OSError) as error:
            raise DeviceUnreachableError(
                f"no supervisor answers at {self._url} ({_reason(error)}): is the device on, and "
                "of variant development?"
            ) from error
        if answer.status_code == 401:
            raise LocalError(
                f"{self._url} is not in local mode: turn it on with "
                "`gantry env set RESIN_SUPERVISOR_LOCAL_MODE=1 --device DEVICE` (development "
                "variants only)"
            )
        document: Any = None
        with suppress(ValueError):
            document = answer.json()
        if answer.status_code != 200 or not isinstance(document, dict):
            said = document.get("message") if isinstance(document, dict) else answer.text[:200]
            raise LocalError(f"{self._url}{path}: {answer.status_code}: {said}")
        return document


def _log_line(text: str) -> LogLine:
    try:
        return read_line(json.loads(text))
    except ValueError as error:
        raise DeviceUnreachableError(f"a line of the log is none: {text!r:.80}") from error


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__


def bracketed(host: str) -> str:
    """A host for a URL."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host

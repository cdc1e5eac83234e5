"""A request as handlers see it, and a table's entries."""

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from gantry.supervisor import wire
from gantry.supervisor.bundles import Bundles
from gantry.supervisor.keys import Scope
from gantry.supervisor.services import Services
from gantry.supervisor.web.streams import Slots

_LOG = logging.getLogger(__name__)
BODY_LIMIT = 10 * 1024**2


class Supervisor(Protocol):
    """What the HTTP API needs of the rest."""

    def scope_of(self, key: str) -> Scope | None:
        """What this key opens; None when it opens nothing."""

    def asks_no_key(self) -> bool:
        """Whether the device is in local mode, in which the family asks nobody for a key."""

    def complaints(self) -> list[str]:
        """What is wrong with the supervisor itself; empty when it is healthy."""

    def bundles(self) -> Bundles:
        """Who applies bundles, before the device is provisioned too."""

    def services(self) -> Services | None:
        """What may be asked of the device; None before it is provisioned."""


class RefusalError(Exception):
    """A request that is not carried out. `text` answers in plain text, as the family's older
    endpoints do; else the answer is `{"status": "failed", "message": …}`."""

    def __init__(self, status: int, message: str, text: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.text = text

    def response(self) -> Response:
        """The answer."""
        if self.text:
            return PlainTextResponse(str(self), status_code=self.status)
        return failed(self.status, str(self))


def failed(status: int, message: str) -> JSONResponse:
    """The family's form of an error."""
    return JSONResponse({"status": "failed", "message": message}, status_code=status)


def success(**more: Any) -> JSONResponse:
    """The family's form of an answer of version 2."""
    return JSONResponse({"status": "success", **more})


@dataclass(frozen=True, slots=True)
class StreamSlots:
    """How many may follow something at once. Together they are fewer than the connections that the
    server allows one address, so that the health check always has one."""

    events: Slots = field(default_factory=lambda: Slots(8))
    journals: Slots = field(default_factory=lambda: Slots(4))
    local_logs: Slots = field(default_factory=lambda: Slots(3))


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose key is right."""

    request: Request
    supervisor: Supervisor
    scope: Scope
    slots: StreamSlots

    @property
    def device(self) -> Services:
        """The device's services.

        Raises:
            RefusalError: the device is not provisioned yet.
        """
        services = self.supervisor.services()
        if services is None:
            raise RefusalError(
                503, "the device is not provisioned yet: its config.json is waited for"
            )
        return services

    def app_id(
        self, value: object, missing: str, text: bool = False, denied: str | None = None
    ) -> int:
        """The application that a path or a body names, if this key opens it. `denied` is for those
        of the family's endpoints that say in JSON whose it is not, and in text all else.

        Raises:
            RefusalError: it is no id (400, with `missing`), or another key's (401).
        """
        try:
            app_id = wire.number(value, "appId")
        except wire.WireError as error:
            raise RefusalError(400, missing, text) from error
        if not self.scope.covers(app_id):
            raise RefusalError(401, denied or "Unauthorized", text and denied is None)
        return app_id

    async def body(self) -> dict[str, Any]:
        """The object in the body: JSON, or a form, which is what curl says that it sends. Nothing
        counts as an empty object.

        Raises:
            RefusalError: too large (413), or neither of both (400).
        """
        content = await self._content()
        if not content.strip():
            return {}
        kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        is_form = kind == "application/x-www-form-urlencoded"
        if is_form and not content.lstrip().startswith((b"{", b"[")):
            return dict(parse_qsl(content.decode(errors="replace"), keep_blank_values=True))
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise RefusalError(400, f"the body is not valid JSON: {error}") from error
        if not isinstance(document, dict):
            raise RefusalError(400, f"the body is {document!r:.80}: a JSON object is expected")
        return document

    async def _content(self) -> bytes:
        content = bytearray()
        async for piece in self.request.stream():
            content += piece
            if len(content) > BODY_LIMIT:
                raise RefusalError(413, f"the body is too large: {BODY_LIMIT} bytes are allowed")
        return bytes(content)


Handler = Callable[[Call], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One line of a table. `is_open`: without a key."""

    method: str
    path: str
    handler: Handler
    is_open: bool = False


def flag(body: dict[str, Any], name: str) -> bool:
    """A yes or no of a body, in the family's spellings."""
    return wire.flag(body.get(name))

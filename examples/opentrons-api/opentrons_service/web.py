"""The HTTP interface."""

import email
import email.policy
import json
import platform
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from typing import Protocol

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from opentrons_service.serial_port import Choice
from opentrons_service.settings import Settings
from opentrons_service.simulation import ProtocolError, Simulated, TooLongError

MAX_WAITING = 4
"""Simulations that may wait for the one that runs; the next is told to come back."""


class Simulates(Protocol):
    """What the routes need of the simulator."""

    def simulate(self, content: bytes, name: str) -> Simulated:
        """Simulates a protocol."""
        ...


class RequestError(Exception):
    """The request cannot be served; `status` says how it is answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def create_app(
    settings: Settings, simulator: Simulates, find_port: Callable[[], Choice]
) -> Starlette:
    """The application; `find_port` is called anew for each answer: boards are plugged in later."""
    turn = CapacityLimiter(1)

    async def simulate(request: Request) -> Response:
        try:
            name, content = await _read_protocol(request, settings.max_bytes)
            if turn.statistics().tasks_waiting >= MAX_WAITING:
                raise RequestError(503, "too many simulations are waiting: come back later")
            result = await to_thread.run_sync(simulator.simulate, content, name, limiter=turn)
        except RequestError as error:
            return _error(error.status, str(error))
        except ProtocolError as error:
            return _error(422, str(error), kind=error.kind)
        except TooLongError as error:
            return _error(504, str(error))
        if request.query_params.get("format") == "text":
            return PlainTextResponse("".join(_indented(each) for each in result.runlog))
        return JSONResponse(
            {
                "protocol": name,
                "seconds": round(result.seconds, 3),
                "commands": len(result.runlog),
                "runlog": result.runlog,
            }
        )

    async def health(_request: Request) -> Response:
        answer = {
            "status": "ok",
            "opentrons": version("opentrons"),
            "machine": platform.machine(),
            "serial": asdict(find_port()),
        }
        return JSONResponse(answer)

    async def serial(_request: Request) -> Response:
        return JSONResponse(asdict(find_port()))

    return Starlette(
        routes=[
            Route("/simulate", simulate, methods=["POST"]),
            Route("/health", health),
            Route("/serial", serial),
        ]
    )


async def _read_protocol(request: Request, max_bytes: int) -> tuple[str, bytes]:
    """The protocol's file name and content, from a multipart form or from the whole body."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise RequestError(413, f"the protocol is larger than {max_bytes} bytes")
    kind = request.headers.get("content-type", "")
    if kind.startswith("multipart/"):
        name, content = _first_file(kind, bytes(body))
    else:
        name, content = request.query_params.get("name", ""), bytes(body)
    if not content.strip():
        raise RequestError(400, "no protocol came: post it as the body, or as a file of a form")
    if not name:
        name = "protocol.json" if _is_json(content) else "protocol.py"
    if not name.endswith((".py", ".json")):
        raise RequestError(415, f"{name}: only .py and .json protocols can be simulated")
    return name, content


def _first_file(kind: str, body: bytes) -> tuple[str, bytes]:
    header = f"Content-Type: {kind}\r\n\r\n".encode()
    form = email.message_from_bytes(header + body, policy=email.policy.HTTP)
    for part in form.iter_parts() if form.is_multipart() else ():
        name = part.get_filename()
        if name:
            content = part.get_payload(decode=True)
            return name.rsplit("/", 1)[-1], content if isinstance(content, bytes) else b""
    raise RequestError(400, "the form has no file: curl -F protocol=@file.py")


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _indented(entry: dict[str, object]) -> str:
    return "\t" * int(str(entry["level"])) + f"{entry['text']}\n"


def _error(status: int, message: str, **more: str) -> JSONResponse:
    return JSONResponse({"error": message, **more}, status)

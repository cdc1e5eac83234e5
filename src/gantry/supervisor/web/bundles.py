"""Bundles by the supervisor's HTTP API: `POST /v2/bundle` takes one, `GET /v2/bundle` says how the
last one fares."""

import asyncio
import os
import secrets
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response

from gantry.contracts.bundle import FORCE, HEADER_LENGTH, SUFFIX, BundleError, read_header
from gantry.supervisor.bundle_folder import PARTIAL
from gantry.supervisor.room import RESERVE
from gantry.supervisor.web.calls import Call, Endpoint, RefusalError, success

# Written to the disk in pieces of that size, in bytes.
_PIECE = 256 * 1024


async def tell(call: Call) -> Response:
    status = call.supervisor.bundles().status
    return success(bundle=asdict(status) if status else None)


async def take(call: Call) -> Response:
    """Take a bundle: the body is the file. `?force=true` for a release that is not newer.

    202 with its name once it is here whole; 400 what is no bundle, 411 without Content-Length,
    507 without room.
    """
    request, bundles = call.request, call.supervisor.bundles()
    length = request.headers.get("Content-Length", "")
    if not length.isdecimal() or len(length) > 15:
        raise RefusalError(411, "send the bundle with its Content-Length")
    force = FORCE if request.query_params.get("force") in ("true", "1") else ""
    name = f"upload-{secrets.token_hex(4)}{force}{SUFFIX}"
    partial = bundles.folder / f"{name}{PARTIAL}"
    try:
        await asyncio.to_thread(_make_room, bundles.folder, int(length))
        with await asyncio.to_thread(partial.open, "wb") as stream:
            await _receive(request, stream, int(length))
        await asyncio.to_thread(partial.replace, bundles.folder / name)
    except BundleError as error:
        raise RefusalError(400, str(error)) from error
    except OSError as error:
        raise RefusalError(507, f"{bundles.folder}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            await asyncio.to_thread(partial.unlink, True)
    bundles.wake()
    answer = success(name=name)
    answer.status_code = 202
    return answer


def _make_room(folder: Path, length: int) -> None:
    """Have the folder, and see that the file fits beside all else."""
    folder.mkdir(parents=True, exist_ok=True)
    usage = os.statvfs(folder)
    free = usage.f_bavail * usage.f_frsize
    if free < length + RESERVE:
        mib = 1024**2
        raise OSError(0, f"the bundle has {length // mib} MiB, and {free // mib} MiB are free")


async def _receive(request: Request, stream: BinaryIO, length: int) -> None:
    """Write the body. What is no bundle, or not one of that length, is refused at its beginning.

    Raises:
        BundleError: it is none, or the caller went away.
        OSError: it cannot be written.
    """
    received, checked = bytearray(), False
    total = 0
    async for piece in request.stream():
        received += piece
        total += len(piece)
        if not checked and len(received) >= HEADER_LENGTH:
            header = read_header(bytes(received[:HEADER_LENGTH]))
            if header.total != length:
                raise BundleError(
                    f"the bundle was cut off: it has {length} of {header.total} bytes; copy it "
                    "again"
                )
            checked = True
        if len(received) >= _PIECE:
            await asyncio.to_thread(stream.write, bytes(received))
            received.clear()
    if not checked:
        read_header(bytes(received))
    if total != length:
        raise BundleError(f"the connection ended after {total} of {length} bytes: send it again")
    await asyncio.to_thread(_finish, stream, bytes(received))


def _finish(stream: BinaryIO, rest: bytes) -> None:
    stream.write(rest)
    stream.flush()
    os.fsync(stream.fileno())


ENDPOINTS = (
    Endpoint("GET", "/v2/bundle", tell),
    Endpoint("POST", "/v2/bundle", take),
)

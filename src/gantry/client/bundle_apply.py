"""Bringing a bundle to a device: over SSH into the folder that its supervisor looks at, or by the
supervisor's HTTP API."""

import json
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from gantry.client.errors import ClientError, NotAuthorisedError, UnreachableError, UsageError
from gantry.contracts.bundle import (
    FORCE,
    HEADER_LENGTH,
    SUFFIX,
    BundleError,
    Header,
    Index,
    read_header,
    read_index,
)

FOLDER = "/mnt/data/bundles"
_PIECE = 1024**2
# A device unpacks onto a slow card, and may be restarting meanwhile.
_PATIENCE_SECONDS = 3600.0
_LOOK_SECONDS = 2.0


def look(path: Path) -> Index:
    """What is in a bundle, from its beginning.

    Raises:
        ClientError: the file is no whole bundle.
    """
    return _read(path)[1]


def verify(path: Path) -> Index:
    """What is in a bundle, of which every part is sound.

    Raises:
        ClientError: the file is no whole bundle, or damaged.
    """
    import hashlib

    header, index = _read(path)
    with path.open("rb") as stream:
        stream.seek(header.index_offset + header.index_length)
        for part in index.parts:
            digest, left = hashlib.sha256(), part.size
            while left and (piece := stream.read(min(_PIECE, left))):
                digest.update(piece)
                left -= len(piece)
            if digest.hexdigest() != part.digest.partition(":")[2]:
                raise ClientError(f"{path}: its {part.kind} {part.digest} is damaged: make it anew")
    return index


def _read(path: Path) -> tuple[Header, Index]:
    try:
        with path.open("rb") as stream:
            header = read_header(stream.read(HEADER_LENGTH))
            length = path.stat().st_size
            if length != header.total:
                raise ClientError(
                    f"{path} is no whole bundle: it has {length} of {header.total} bytes"
                )
            stream.seek(header.index_offset)
            return header, read_index(stream.read(header.index_length), header)
    except BundleError as error:
        raise ClientError(f"{path}: {error}") from error
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}") from error


def read_key(path: Path) -> str:
    """A key from a file; `-` is stdin.

    Raises:
        UsageError: there is none.
    """
    try:
        key = (sys.stdin.read() if str(path) == "-" else path.read_text()).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a key: {error}") from error
    if not key:
        raise UsageError(f"{path} holds no key")
    return key


def by_http(path: Path, address: str, key: str, force: bool, told: Callable[[str], None]) -> str:
    """Send it to the supervisor's HTTP API; what the device said at its end.

    Raises:
        ClientError: one of its kinds; also where the device refused the bundle.
    """
    url = f"{address.rstrip('/')}/v2/bundle"
    headers = {"Authorization": f"Bearer {key}", "Content-Length": str(path.stat().st_size)}
    try:
        with httpx2.Client(timeout=httpx2.Timeout(60.0, connect=15.0), headers=headers) as client:
            parameters = {"force": "true"} if force else {}
            answer = client.post(url, content=_pieces(path), params=parameters)
            name = str(_success(answer)["name"])
    except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
        raise UnreachableError(f"{address}: {str(error) or type(error).__name__}") from error

    def ask() -> dict[str, Any] | None:
        try:
            answer = httpx2.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=30.0)
        except httpx2.HTTPError:
            return None  # it may be starting anew
        return _success(answer).get("bundle") if answer.status_code == 200 else None

    return _wait(name, ask, told)


def _success(answer: httpx2.Response) -> dict[str, Any]:
    sentence = answer.text.strip()[:300]
    if answer.status_code in (401, 403):
        raise NotAuthorisedError("the device does not take this key")
    if answer.status_code >= 400:
        raise ClientError(f"the device refused it: {sentence}")
    try:
        found = answer.json()
    except ValueError as error:
        raise UnreachableError("that is no supervisor: its answer is no JSON") from error
    return found if isinstance(found, dict) else {}


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            yield piece


def by_ssh(path: Path, address: str, port: int, force: bool, told: Callable[[str], None]) -> str:
    """Copy it over SSH, where root may log in; what the device said at its end.

    Raises:
        ClientError: one of its kinds; also where the device refused the bundle.
    """
    if address.startswith("-") or not address.isprintable() or " " in address:
        raise UsageError(f"{address!r} is no host")
    name = f"ssh-{secrets.token_hex(4)}{FORCE if force else ''}{SUFFIX}"
    place, partial = f"{FOLDER}/{name}", f"{FOLDER}/{name}.part"
    # Whole or not at all, also when the connection ends: the supervisor looks at whole ones only.
    script = (
        f"mkdir -p {FOLDER} && trap 'rm -f {partial}' EXIT && cat > {partial} && "
        f'test "$(stat -c %s {partial})" = {path.stat().st_size} && sync && mv {partial} {place}'
    )
    with path.open("rb") as stream:
        _ssh(address, port, script, stream)
    told("copied; the device is at it")

    def ask() -> dict[str, Any] | None:
        answer = _ssh(address, port, f"cat {FOLDER}/status.json 2>/dev/null || true")
        try:
            found = json.loads(answer or "null")
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    return _wait(name, ask, told)


def _ssh(address: str, port: int, script: str, stream: Any = subprocess.DEVNULL) -> str:
    user = "" if "@" in address else "root@"
    options = ["-p", str(port), "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
    command = ["ssh", *options, f"{user}{address}", f"sh -c {shlex.quote(script)}"]
    try:
        ended = subprocess.run(command, stdin=stream, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ClientError(f"ssh cannot be run: {error.strerror}") from error
    if ended.returncode:
        lines = ended.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"status {ended.returncode}"
        kind = UnreachableError if ended.returncode == 255 else ClientError
        raise kind(f"{address}: {reason}")
    return ended.stdout


def _wait(name: str, ask: Callable[[], dict[str, Any] | None], told: Callable[[str], None]) -> str:
    """Until the device has taken this bundle or refused it."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < end:
        found = ask()
        if found is not None and found.get("name") == name:
            message = str(found.get("message", ""))
            if found.get("stage") == "refused":
                raise ClientError(f"the device refused it: {message}")
            if found.get("stage") == "applied":
                return message
            told(f"{found.get('stage')}: {message}")
        time.sleep(_LOOK_SECONDS)
    raise UnreachableError("the device has said nothing for an hour: look at its journal")

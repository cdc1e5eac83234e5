"""The host's side of the supervisor's door: one process a request, by systemd's socket activation.

The supervisor's container has one socket of the host beside the engine's. A request is a line of
JSON, `{"do": "reboot"}`; the answer is a line, `{"ok": {…}}` or `{"error": "…"}`; after that of
`journal` follow the journal's bytes. Only what is listed in DOINGS is done, and no part of a
request becomes a command: units are named here, and journalctl's options are checked one by one.
"""

import json
import os
import re
import select
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gantry_supervisor import files, leds

REQUEST_LIMIT = 4096
REQUEST_SECONDS = 10.0
DEVICE = Path(os.environ.get("GANTRY_DEVICE", "/etc/gantry/device.json"))
HOSTNAME = Path(os.environ.get("GANTRY_HOSTNAME", "/etc/hostname"))
# A file here for each service that is off: units have it as a condition, so that nothing else of
# the host, such as new settings, starts them. Gone with a boot.
OFF = Path(os.environ.get("GANTRY_RUN", "/run/gantry")) / "off"
# Of systemctl(1), in seconds: systemd answers at once or not at all.
COMMAND_SECONDS = 20.0
PIECE = 64 * 1024
# What the fleet's variables may switch, and what has to be switched together: a socket would start
# its service again.
SERVICES = {
    "vpn": ("gantry-vpn.service",),
    "discovery": ("avahi-daemon.socket", "avahi-daemon.service"),
}
# States of a unit that does something.
BUSY = ("activating", "active", "deactivating", "reloading")
# `--output` of journalctl(1).
FORMATS = frozenset(
    (
        "cat",
        "export",
        "json",
        "json-pretty",
        "json-seq",
        "json-sse",
        "short",
        "short-full",
        "short-iso",
        "short-iso-precise",
        "short-monotonic",
        "short-precise",
        "short-unix",
        "verbose",
        "with-unit",
    )
)
# Unit names with patterns (systemd.unit(5)); identifiers of syslog; times (systemd.time(7)).
WORD = re.compile(r"[A-Za-z0-9:_.\\@*?\[\]-]{1,200}")
TIME = re.compile(r"[A-Za-z0-9:.,+@ -]{1,100}")


class DoorError(Exception):
    """The request cannot be carried out; the message says why."""


def main() -> int:
    """Answer the connection on file descriptor 0; the exit status."""
    with socket.socket(fileno=os.dup(0)) as connection:
        serve(connection)
    return 0


def serve(connection: socket.socket) -> None:
    """Read one request and answer it."""
    connection.settimeout(REQUEST_SECONDS)
    try:
        try:
            request = _read(connection)
            doing = DOINGS.get(str(request.get("do")))
            if doing is None:
                raise DoorError(f"{request.get('do')!r} is none of {', '.join(sorted(DOINGS))}")
            doing(connection, request)
        except (DoorError, files.FileError, leds.LedError) as error:
            _answer(connection, error=str(error))
    except OSError as error:  # who asked is gone
        print(f"not answered: {error}", flush=True)


def _read(connection: socket.socket) -> dict[str, Any]:
    content = b""
    while not content.endswith(b"\n"):
        piece = connection.recv(REQUEST_LIMIT)
        content += piece
        if not piece or len(content) > REQUEST_LIMIT:
            raise DoorError(f"a request is a line of at most {REQUEST_LIMIT} bytes")
    try:
        request = json.loads(content)
    except ValueError as error:
        raise DoorError("a request is a line of JSON") from error
    if not isinstance(request, dict):
        raise DoorError("a request is a JSON object")
    return request


def _answer(connection: socket.socket, error: str = "", **found: Any) -> None:
    answer = {"error": error} if error else {"ok": found}
    connection.sendall(json.dumps(answer).encode() + b"\n")


def _systemctl(*arguments: str) -> str:
    """What systemctl prints.

    Raises:
        DoorError: it refuses, or does not answer.
    """
    return _command("systemctl", *arguments)


def _command(*command: str) -> str:
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip() or f"exit status {error.returncode}"
        raise DoorError(f"{' '.join(command)}: {reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DoorError(f"{' '.join(command)}: {error}") from error
    return done.stdout


def reboot(connection: socket.socket, _request: Mapping[str, Any]) -> None:
    """Restart the host. systemd stops everything in order."""
    print("the supervisor has the host restarted", flush=True)
    _systemctl("--no-block", "reboot")
    _answer(connection)


def shutdown(connection: socket.socket, _request: Mapping[str, Any]) -> None:
    """Switch the host off."""
    print("the supervisor has the host switched off", flush=True)
    _systemctl("--no-block", "poweroff")
    _answer(connection)


def blink(connection: socket.socket, request: Mapping[str, Any]) -> None:
    """Blink for `seconds`; the answer comes before that."""
    seconds = request.get("seconds", 15)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 300:
        raise DoorError(f"seconds is {seconds!r}: give more than 0 and at most 300")
    led = leds.find()
    _answer(connection, led=led.name if led else None)
    connection.close()
    if led:
        end = time.monotonic() + seconds

        def goes_on(pause: float) -> bool:
            time.sleep(pause)
            return time.monotonic() < end

        leds.blink(led, goes_on)


def signal(connection: socket.socket, request: Mapping[str, Any]) -> None:
    """Blink so many times, with pauses between, until who asked closes the connection."""
    times = request.get("times")
    if isinstance(times, bool) or not isinstance(times, int) or not 0 < times <= 10:
        raise DoorError(f"times is {times!r}: give 1 to 10")
    led = leds.find()
    _answer(connection, led=led.name if led else None)
    if led:
        leds.signal(led, times, lambda pause: not select.select([connection], [], [], pause)[0])


def facts(connection: socket.socket, _request: Mapping[str, Any]) -> None:
    """Name and variant of the host, and which of its services run."""
    try:
        hostname = HOSTNAME.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise DoorError(f"{HOSTNAME} cannot be read: {error.strerror}") from error
    device = files.read_object(DEVICE) or {}
    states = {name: _is_active(units[-1]) for name, units in SERVICES.items()}
    _answer(connection, hostname=hostname, variant=device.get("variant"), services=states)


def _is_active(unit: str) -> str:
    command = ["systemctl", "is-active", unit]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DoorError(f"{' '.join(command)}: {error}") from error
    return done.stdout.strip() or "unknown"


def service(connection: socket.socket, request: Mapping[str, Any]) -> None:
    """Start or stop one of the services that variables may switch, until the next boot."""
    units = SERVICES.get(str(request.get("name")))
    if units is None or not isinstance(request.get("on"), bool):
        raise DoorError(f"give name, one of {', '.join(SERVICES)}, and on, true or false")
    _mark(OFF / str(request["name"]), off=not request["on"])
    _systemctl("--no-block", "start" if request["on"] else "stop", *units)
    _answer(connection)


def _mark(path: Path, off: bool) -> None:
    try:
        if off:
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            path.touch(mode=0o644)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise DoorError(f"{path} cannot be written: {error.strerror}") from error


def supervisor(connection: socket.socket, _request: Mapping[str, Any]) -> None:
    """Which image the supervisor's container is of, and how its last update ended."""
    from gantry_supervisor import asked

    # Asked first: what has ended by now has left its result by then.
    is_busy = _is_active(asked.UNIT) in BUSY
    with _told(asked.AskedError):
        state = asked.state()
    _answer(connection, **state, updating=is_busy or state["trying"])


def update(connection: socket.socket, request: Mapping[str, Any]) -> None:
    """Begin an update of the supervisor; `supervisor` tells how it ended."""
    from gantry_supervisor import asked

    with _told(asked.AskedError):
        image = asked.checked(request.get("image"))
    if _is_active(asked.UNIT) in BUSY:
        raise DoorError("another update is under way: wait for it")
    print(f"the supervisor has itself updated to {image}", flush=True)
    _command(*asked.command(image))
    _answer(connection)


@contextmanager
def _told(kind: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kind as error:
        raise DoorError(str(error)) from error


def journal_command(request: Mapping[str, Any]) -> list[str]:
    """journalctl's command line.

    Raises:
        DoorError: an option that it would not take, or that would be another option.
    """
    command = ["journalctl", "--no-pager", "--quiet"]
    command += [f"--{name}" for name in ("all", "follow") if request.get(name) is True]
    count = request.get("count")
    if count is not None:
        if isinstance(count, bool) or not isinstance(count, int) or not 0 < count < 10**9:
            raise DoorError(f"count is {count!r}: give how many lines, 1 or more")
        command.append(f"--lines={count}")
    form = request.get("format") or "short"
    if form not in FORMATS:
        raise DoorError(f"format is {form!r}: give one of {', '.join(sorted(FORMATS))}")
    command.append(f"--output={form}")
    words = {"unit": "--unit", "container_id": "--identifier"}
    for name, option in (*words.items(), ("since", "--since"), ("until", "--until")):
        value = request.get(name)
        if value in (None, ""):
            continue
        if not isinstance(value, str) or not (WORD if name in words else TIME).fullmatch(value):
            raise DoorError(f"{name} is {value!r}: give it as journalctl takes {option}")
        command.append(f"{option}={value}")
    return command


def journal(connection: socket.socket, request: Mapping[str, Any]) -> None:
    """Pass on what journalctl prints, no faster than it is taken."""
    command = journal_command(request)
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError as error:
        raise DoorError(f"journalctl: {error}") from error
    try:
        if not _pass_on(connection, process):
            said = (process.stderr.read(400) if process.stderr else b"").decode(errors="replace")
            raise DoorError(f"journalctl: {said.strip() or f'exit status {process.returncode}'}")
    finally:
        process.kill()
        process.communicate()


def _pass_on(connection: socket.socket, process: subprocess.Popen[bytes]) -> bool:
    """Answer, and pass on until either side ends; False if it failed before it said anything."""
    output = process.stdout.fileno() if process.stdout else -1
    answered = False
    # Neither who has nothing to say for hours nor who takes it slowly is a reason to end; that who
    # asked has gone is one.
    connection.settimeout(None)
    caller = connection.fileno()
    while True:
        ready, _, _ = select.select([output, caller], [], [], None if answered else 1.0)
        if caller in ready and not connection.recv(PIECE):
            return True
        piece = os.read(output, PIECE) if output in ready else None
        if piece == b"" and not answered and process.wait():
            return False
        if not answered:
            _answer(connection)
            answered = True
        if piece == b"":
            return True
        if piece:
            connection.sendall(piece)


DOINGS: dict[str, Callable[[socket.socket, Mapping[str, Any]], None]] = {
    "blink": blink,
    "facts": facts,
    "journal": journal,
    "reboot": reboot,
    "service": service,
    "shutdown": shutdown,
    "signal": signal,
    "supervisor": supervisor,
    "update": update,
}

"""`gantry logs`: what a device's containers say."""

import json
import re
import time
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from gantry.cli.context import DeviceArgument, FleetOption, client_of
from gantry.cli.output import console, plain, say, shown
from gantry.client.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from gantry.client.api_client import ApiClient
    from gantry.client.log_line import LogLine
    from gantry.client.records import Device

PALETTE = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGO = re.compile(r"(\d+)([smhdw])")


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command()(logs)


def logs(
    ctx: typer.Context,
    device: DeviceArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes.")] = False,
    number: Annotated[
        int | None, typer.Option("-n", "--lines", min=0, help="The last lines; default 100.")
    ] = None,
    service: Annotated[
        str | None, typer.Option("--service", "-s", help="Of this service alone.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="From then on: 10m, 2h, 3d, or 2026-05-01T12:00.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    fleet: FleetOption = None,
) -> None:
    """What a device's containers say, in order. Ctrl-C ends following."""
    from gantry.cli import log_follow

    since_ms = None if since is None else moment_ms(since, time.time())
    count = 100 if number is None and since_ms is None else number
    wanted = log_follow.Selection(count, since_ms, service)
    try:
        with client_of(ctx, fleet) as client:
            found = client.device(device)
            if service:
                _notice_unknown(client, found, service)
            if follow:
                _print(log_follow.follow(client, found, wanted, say), as_json)
                return
            lines = log_follow.history(client, found, wanted)
            if not lines:
                say(f"no lines of {found.name}" + (f" for {service}" if service else ""))
            _print(lines, as_json)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED if not follow else ExitCode.OK) from None


def _notice_unknown(client: "ApiClient", device: "Device", service: str) -> None:
    """Say it when no release has had such a service; a later one may, so it is no error."""
    known = sorted(set(client.service_names(device).values()))
    if known and service not in known:
        say(f"{device.application} has no service {service!r}: there is {', '.join(known)}")


def moment_ms(text: str, now: float) -> int:
    """`10m` ago, or an ISO 8601 time (local without a zone), in milliseconds since the epoch.

    Raises:
        UsageError: neither.
    """
    ago = _AGO.fullmatch(text)
    if ago:
        return round((now - int(ago[1]) * _UNITS[ago[2]]) * 1000)
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--since {text!r}: write 10m, 2h, 3d or 2026-05-01T12:00") from error


def _print(lines: Iterable["LogLine"], as_json: bool) -> None:
    out = console()
    colours: dict[str, str] = {}
    for line in lines:
        if as_json:
            print(json.dumps(dict(line.fields), ensure_ascii=False), flush=True)
        else:
            print_line(out, line, colours)


def print_line(out: Console, line: "LogLine", colours: dict[str, str]) -> None:
    """`May 01 12:00:00 [main] homed`. A program's own colours stay; its other escapes do not."""
    text = Text()
    text.append(time.strftime("%b %d %H:%M:%S ", time.localtime(line.timestamp / 1000)), "dim")
    name = plain(line.service) or ("system" if line.is_system else "")
    if name:
        colour = colours.setdefault(name, PALETTE[len(colours) % len(PALETTE)])
        text.append(f"[{name}] ", "dim" if line.is_system else colour)
    message = Text.from_ansi(shown(line.message))
    if line.is_system or line.is_error:
        message.style = "dim italic" if line.is_system else "red"
    out.print(text + message, soft_wrap=True)

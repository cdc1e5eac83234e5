"""`gantry devices`: what each device runs, and the end of those that are no more."""

import contextlib
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from gantry.cli.context import (
    ApplicationOption,
    FleetOption,
    JsonOption,
    client_of,
    complete_device,
)
from gantry.cli.output import coloured, console, print_json, print_table, say, table_of
from gantry.client.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from gantry.client.records import Device

COLUMNS = ("name", "uuid", "type", "fleet", "online", "vpn", "release", "status", "progress")
NO_DEVICES = "no devices: `gantry device run` starts one on this machine"
WATCH_SECONDS = 2.0
_SPANS = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
STATUS_COLOURS = {
    "operational": "green",
    "updating": "yellow",
    "configuring": "yellow",
    "disconnected": "red",
    "inactive": "dim",
}


devices_app = typer.Typer(help="The devices, and what they run.")


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(devices_app, name="devices", invoke_without_command=True)


@devices_app.callback(invoke_without_command=True)
def devices(
    ctx: typer.Context,
    application: ApplicationOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Again and again, until Ctrl-C.")
    ] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """The devices, and what they run."""
    if ctx.invoked_subcommand:
        return
    with client_of(ctx, fleet) as client:
        of = client.application(application) if application else None
        if watch and not as_json:
            _watch(lambda: client.devices(of))
            return
        found = client.devices(of)
    if as_json:
        print_json(found)
        return
    print_table(COLUMNS, map(_row, found), NO_DEVICES)


@devices_app.command("rm")
def remove(
    ctx: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="DEVICE…",
            help="Names, ids, or beginnings of uuids.",
            autocompletion=complete_device,
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    fleet: FleetOption = None,
) -> None:
    """Make the fleet forget devices, with their variables. What they run, they go on running."""
    with client_of(ctx, fleet) as client:
        found = [client.device(name) for name in names]
        if not yes:
            _confirm(found)
        for device in found:
            client.remove_device(device)
            say(f"{device.name}: removed ({device.uuid})")


@devices_app.command()
def supervisor(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="DEVICE",
            help="Its name, id, or the beginning of its uuid.",
            autocompletion=complete_device,
        ),
    ],
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="To run from now on, such as 0.8.0.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--any", help="Whichever it has: nothing is wanted any more.")
    ] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """The supervisor that a device runs and the one that it is to run; with VERSION, another."""
    if keep and version is not None:
        raise UsageError("give a version or --any")
    with client_of(ctx, fleet) as client:
        device = client.device(name)
        if keep or version is not None:
            client.set_supervisor(device, version)
        found = client.supervisors(device)
    if as_json:
        print_json(found)
        return
    runs = found.runs or "none yet"
    if found.wanted is None:
        print(f"{found.device}: runs {runs}, and keeps it")
    elif found.wanted == found.runs:
        print(f"{found.device}: runs {runs}, as it should")
    else:
        print(f"{found.device}: runs {runs}, is to run {found.wanted}; its log tells how that goes")


def _confirm(found: "list[Device]") -> None:
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask: add --yes")
    told = ", ".join(f"{each.name}{' (online)' if each.is_online else ''}" for each in found)
    typer.confirm(f"Forget {told}? They must be provisioned anew to come back.", abort=True)


def _watch(ask: Callable[[], "list[Device]"]) -> None:
    """The table, kept as things are now, with progress bars."""
    with (
        contextlib.suppress(KeyboardInterrupt),
        Live(console=console(), auto_refresh=False) as live,
    ):
        while True:
            try:
                found = ask()
                live.update(table_of(COLUMNS, map(_watched_row, found)), refresh=True)
            except UnreachableError as error:
                live.update(Text(str(error), "red"), refresh=True)
            time.sleep(WATCH_SECONDS)


def _row(device: "Device") -> list[Text]:
    return [
        Text(device.name),
        Text(device.uuid[:7]),
        Text(device.device_type),
        Text(device.application),
        Text("yes", "green") if device.is_online else Text("no", "red"),
        vpn_text(device, datetime.now(UTC)),
        Text(release_text(device)),
        coloured(device.status, STATUS_COLOURS),
        Text("" if device.progress is None else f"{device.progress} %"),
    ]


def _watched_row(device: "Device") -> "list[RenderableType]":
    row: list[RenderableType] = [*_row(device)]
    if device.progress is not None:
        row[-1] = ProgressBar(100, device.progress, width=20)
    return row


def vpn_text(device: "Device", now: datetime) -> Text:
    """`up 3 h`: whether a device can be reached, and since when. Nothing: it never could."""
    if device.vpn_since is None:
        return Text("")
    seconds = (now - datetime.fromisoformat(device.vpn_since)).total_seconds()
    span = next(
        (f"{seconds // size:.0f} {unit}" for unit, size in _SPANS if seconds >= size), "now"
    )
    return Text(f"up {span}", "green") if device.is_vpn_connected else Text(f"down {span}", "red")


def release_text(device: "Device") -> str:
    """`1a2b3c4`, or `1a2b3c4 → 5d6e7f8` while it should run another, and whether that failed."""
    runs, target = (device.commit or "")[:7], (device.target_commit or "")[:7]
    if runs == target or not target:
        return runs
    rejected = " rejected" if device.update_status == "rejected" else ""
    return f"{runs or 'none'} → {target}{rejected}"

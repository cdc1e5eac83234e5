"""`gantry devices`: what each device runs."""

from typing import TYPE_CHECKING

import typer
from rich.text import Text

from gantry.cli.context import ApplicationOption, FleetOption, JsonOption, client_of
from gantry.cli.output import coloured, print_json, print_table

if TYPE_CHECKING:
    from gantry.cli.records import Device

STATUS_COLOURS = {
    "operational": "green",
    "updating": "yellow",
    "configuring": "yellow",
    "disconnected": "red",
    "inactive": "dim",
}


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command()(devices)


def devices(
    ctx: typer.Context,
    application: ApplicationOption = None,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """The devices, and what they run."""
    with client_of(ctx, fleet) as client:
        of = client.application(application) if application else None
        found = client.devices(of)
    if as_json:
        print_json(found)
        return
    columns = ("name", "uuid", "type", "fleet", "online", "release", "status", "progress")
    rows = [
        (
            each.name,
            each.uuid[:7],
            each.device_type,
            each.application,
            Text("yes", "green") if each.is_online else Text("no", "red"),
            release_text(each),
            coloured(each.status, STATUS_COLOURS),
            "" if each.progress is None else f"{each.progress} %",
        )
        for each in found
    ]
    print_table(columns, rows, "no devices: `gantry device run` starts one on this machine")


def release_text(device: "Device") -> str:
    """`1a2b3c4`, or `1a2b3c4 → 5d6e7f8` while it should run another."""
    runs, target = (device.commit or "")[:7], (device.target_commit or "")[:7]
    return runs if runs == target or not target else f"{runs or 'none'} → {target}"

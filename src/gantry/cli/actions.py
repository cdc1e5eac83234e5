"""`gantry actions`: what devices are to do, did, or are kept from."""

from typing import Annotated

import typer

from gantry.cli.context import FleetOption, JsonOption, client_of, complete_device
from gantry.cli.device_actions import what_of
from gantry.cli.output import coloured, moment, print_json, print_table, say

COLUMNS = ("id", "device", "action", "state", "asked", "kept until", "ended", "result")
STATUS_COLOURS = {
    "pending": "yellow",
    "running": "yellow",
    "done": "green",
    "failed": "red",
    "expired": "red",
    "cancelled": "dim",
}

actions_app = typer.Typer(help="What devices are to do, and what became of it.")


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(actions_app, name="actions", invoke_without_command=True)


@actions_app.callback(invoke_without_command=True)
def actions(
    ctx: typer.Context,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            "-d",
            metavar="DEVICE",
            help="Of this device alone.",
            autocompletion=complete_device,
        ),
    ] = None,
    pending: Annotated[
        bool, typer.Option("--pending", help="Without those that are over.")
    ] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """What devices are to do, and what became of it; the latest first."""
    if ctx.invoked_subcommand:
        return
    with client_of(ctx, fleet) as client:
        of = client.device(device) if device else None
        found = client.actions.list(of, over=not pending)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            str(each.id),
            each.device,
            what_of(each) + (" (forced)" if each.force else ""),
            coloured(each.status, STATUS_COLOURS),
            moment(each.created_at),
            moment(each.expires_at) if each.status == "pending" else "",
            moment(each.ended_at),
            each.result or "",
        )
        for each in found
    ]
    nothing = "nothing waits" if pending else "no actions: `gantry device restart DEVICE` is one"
    print_table(COLUMNS, rows, nothing)


@actions_app.command()
def cancel(
    ctx: typer.Context,
    action: Annotated[int, typer.Argument(metavar="ID", help="`gantry actions` has them.")],
    fleet: FleetOption = None,
) -> None:
    """Take back what a device has not begun yet."""
    with client_of(ctx, fleet) as client:
        client.actions.cancel(action)
    say(f"action {action}: cancelled")

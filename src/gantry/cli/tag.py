"""`gantry tag`: what one notes of devices, for lists and playbooks; devices are not told."""

from typing import Annotated

import typer

from gantry.cli.context import FleetOption, JsonOption, client_of, complete_device
from gantry.cli.output import print_json, print_table, say

tag_app = typer.Typer(help="Tags of devices, for lists and playbooks.", no_args_is_help=True)

DeviceArgument = Annotated[
    str,
    typer.Argument(
        metavar="DEVICE",
        help="A name, an id, or the beginning of a uuid.",
        autocompletion=complete_device,
    ),
]


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(tag_app, name="tag")


@tag_app.command("list")
def list_tags(
    ctx: typer.Context,
    device: DeviceArgument,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """The tags of a device."""
    with client_of(ctx, fleet) as client:
        found = client.device(device)
    if as_json:
        print_json(dict(found.tags))
        return
    print_table(
        ("tag", "value"), found.tags.items(), f"no tags: `gantry tag set {found.name} KEY=VALUE`"
    )


@tag_app.command("set")
def set_tags(
    ctx: typer.Context,
    device: DeviceArgument,
    tags: Annotated[list[str], typer.Argument(metavar="KEY[=VALUE]…")],
    fleet: FleetOption = None,
) -> None:
    """Give a device tags, or other values to those that it has."""
    with client_of(ctx, fleet) as client:
        found = client.device(device)
        for key, _, value in (each.partition("=") for each in tags):
            changed = client.set_tag(found, key, value)
            say(f"{key}: {'set' if changed else 'had this value already'} ({found.name})")


@tag_app.command("rm")
def remove_tags(
    ctx: typer.Context,
    device: DeviceArgument,
    keys: Annotated[list[str], typer.Argument(metavar="KEY…")],
    fleet: FleetOption = None,
) -> None:
    """Take tags from a device."""
    with client_of(ctx, fleet) as client:
        found = client.device(device)
        for key in keys:
            client.remove_tag(found, key)
            say(f"{key}: removed ({found.name})")

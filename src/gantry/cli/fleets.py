"""`gantry fleets` and `gantry remote`: applications, and where they are pushed to."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from gantry.cli.context import (
    ApplicationOption,
    FleetOption,
    JsonOption,
    application_of,
    chosen_fleet,
    client_of,
)
from gantry.cli.output import print_json, print_table, say
from gantry.contracts.device_types import UnknownDeviceTypeError, device_type

if TYPE_CHECKING:
    from gantry.client.records import Application, FleetConfig

SSH_PORT = 22

fleets_app = typer.Typer(help="Fleets of devices: applications to push to.")


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(fleets_app, name="fleets", invoke_without_command=True)
    app.command()(remote)
    app.command("git-remote", hidden=True)(remote)


@fleets_app.callback(invoke_without_command=True)
def fleets(ctx: typer.Context, as_json: JsonOption = False, fleet: FleetOption = None) -> None:
    """Fleets of devices: applications to push to."""
    if ctx.invoked_subcommand:
        return
    with client_of(ctx, fleet) as client:
        found = client.applications()
    if as_json:
        print_json(found)
        return
    rows = [
        (each.slug, each.device_type, _online(each), (each.commit or "")[:7], each.uuid[:7])
        for each in found
    ]
    columns = ("fleet", "device type", "online", "release", "uuid")
    print_table(columns, rows, "no fleets: `gantry fleets create NAME --type raspberrypi3-64`")


def _online(application: "Application") -> Text:
    style = "green" if application.devices_online else ""
    return Text(f"{application.devices_online} of {application.devices}", style=style)


@fleets_app.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Letters, digits, - and _; four and more.")],
    kind: Annotated[
        str, typer.Option("--type", help="The device type, such as raspberrypi3-64.")
    ] = "raspberrypi3-64",
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """Make a fleet to push to."""
    try:
        device_type(kind)
    except UnknownDeviceTypeError as error:
        raise typer.BadParameter(str(error), param_hint="--type") from error
    with client_of(ctx, fleet) as client:
        made = client.create_application(name, kind)
        config = client.fleet_config()
    if as_json:
        print_json(made)
        return
    say(f"{made.slug} is there; push to it with")
    print(f"git remote add {made.name} {ssh_form(made, config)}")


def remote(
    ctx: typer.Context,
    application: ApplicationOption = None,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """The git remote of a fleet, in both of its forms."""
    with client_of(ctx, fleet) as client:
        found = application_of(client, application, chosen_fleet(ctx, fleet))
        config = client.fleet_config()
    short, long = scp_form(found, config), ssh_form(found, config)
    if as_json:
        print_json({"name": found.name, "scp": short, "ssh": long})
        return
    print(f"git remote add {found.name} {short}")
    print(f"git remote add {found.name} {long}")
    if config.git_port != SSH_PORT:
        say(
            f"The first needs port {config.git_port} of {config.host} in ~/.ssh/config (`make up`)."
        )


def scp_form(application: "Application", config: "FleetConfig") -> str:
    """`admin@devbots.gantry.internal:admin/devbots.git`: no place for a port in it."""
    owner = application.slug.partition("/")[0]
    return f"{owner}@{config.host}:{application.slug}.git"


def ssh_form(application: "Application", config: "FleetConfig") -> str:
    """`ssh://admin@devbots.gantry.internal:2222/admin/devbots.git`."""
    owner = application.slug.partition("/")[0]
    return f"ssh://{owner}@{config.host}:{config.git_port}/{application.slug}.git"

"""`gantry env`: variables of all devices of a fleet, or of one device."""

from typing import TYPE_CHECKING, Annotated

import typer

from gantry.cli.context import (
    ApplicationOption,
    FleetOption,
    JsonOption,
    application_of,
    chosen_fleet,
    client_of,
    complete_device,
)
from gantry.cli.output import print_json, print_table, say
from gantry.client.errors import UsageError
from gantry.client.records import Application, Device

if TYPE_CHECKING:
    from gantry.client.api_client import ApiClient

env_app = typer.Typer(
    help="Variables in the containers of a fleet, or of one device.", no_args_is_help=True
)

DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        "-d",
        metavar="DEVICE",
        help="Of this device alone; goes before the fleet's.",
        autocompletion=complete_device,
    ),
]


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(env_app, name="env")


def owner_of(
    client: "ApiClient", device: str | None, application: str | None, fleet: str
) -> Application | Device:
    """Whose something is: the device's that is named, else the application's.

    Raises:
        UsageError: both are named.
    """
    if device and application:
        raise UsageError("--device and --application do not go together: it is of one of them")
    return client.device(device) if device else application_of(client, application, fleet)


@env_app.command("list")
def list_variables(
    ctx: typer.Context,
    device: DeviceOption = None,
    application: ApplicationOption = None,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """The variables. For a device also those that it has of its fleet."""
    with client_of(ctx, fleet) as client:
        owner = owner_of(client, device, application, chosen_fleet(ctx, fleet))
        found = client.variables(owner)
        if isinstance(owner, Device):
            own = {each.name for each in found}
            inherited = client.variables(client.application(owner.application))
            found += [each for each in inherited if each.name not in own]
            found.sort(key=lambda each: each.name)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each.name,
            each.value,
            f"device {each.device}" if each.device else f"fleet {each.application}",
        )
        for each in found
    ]
    print_table(("name", "value", "of"), rows, "no variables: `gantry env set NAME=VALUE`")


@env_app.command("set")
def set_variables(
    ctx: typer.Context,
    assignments: Annotated[list[str], typer.Argument(metavar="NAME=VALUE…")],
    device: DeviceOption = None,
    application: ApplicationOption = None,
    fleet: FleetOption = None,
) -> None:
    """Give variables their values. Devices restart what uses them."""
    pairs = [_pair(each) for each in assignments]
    with client_of(ctx, fleet) as client:
        owner = owner_of(client, device, application, chosen_fleet(ctx, fleet))
        for name, value in pairs:
            changed = client.set_variable(owner, name, value)
            say(f"{name}: {'set' if changed else 'had this value already'} ({owner.name})")


def _pair(assignment: str) -> tuple[str, str]:
    name, equals, value = assignment.partition("=")
    if not equals or not name:
        raise UsageError(f"{assignment!r} is no assignment: write NAME=VALUE")
    return name, value


@env_app.command("rm")
def remove_variables(
    ctx: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="NAME…")],
    device: DeviceOption = None,
    application: ApplicationOption = None,
    fleet: FleetOption = None,
) -> None:
    """Remove variables."""
    with client_of(ctx, fleet) as client:
        owner = owner_of(client, device, application, chosen_fleet(ctx, fleet))
        for name in names:
            client.remove_variable(owner, name)
            say(f"{name}: removed ({owner.name})")

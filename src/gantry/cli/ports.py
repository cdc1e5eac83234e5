"""`gantry ports`: which ports of devices members of the organization reach."""

from typing import Annotated

import typer

from gantry.cli.context import (
    ApplicationOption,
    FleetOption,
    JsonOption,
    chosen_fleet,
    client_of,
)
from gantry.cli.env import DeviceOption, owner_of
from gantry.cli.output import print_json, print_table, say
from gantry.client.records import Application, Device

ports_app = typer.Typer(help="Which ports of devices members reach who are no administrators.")


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(ports_app, name="ports", rich_help_panel="Devices from afar")


@ports_app.callback(invoke_without_command=True)
def ports(
    ctx: typer.Context,
    device: DeviceOption = None,
    application: ApplicationOption = None,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """Which ports of devices members reach who are no administrators, who reach all."""
    if ctx.invoked_subcommand:
        return
    with client_of(ctx, fleet) as client:
        owner = owner_of(client, device, application, chosen_fleet(ctx, fleet))
        owners = [owner]
        if isinstance(owner, Device):
            owners.append(client.application(owner.application))
        found = [(_named(each), client.reachable_ports(each)) for each in owners]
    if as_json:
        print_json([{"of": of, "ports": text} for of, text in found])
        return
    rows = [(of, _shown(text, is_fleet=of.startswith("fleet"))) for of, text in found]
    print_table(("of", "ports"), rows, "")


@ports_app.command("set")
def set_ports(
    ctx: typer.Context,
    wanted: Annotated[
        str, typer.Argument(metavar="PORTS", help="Such as 22222,80,8000-8010; none; all.")
    ],
    device: DeviceOption = None,
    application: ApplicationOption = None,
    fleet: FleetOption = None,
) -> None:
    """Say which; for administrators. 22222 is the host's shell. What members have open they open
    anew."""
    with client_of(ctx, fleet) as client:
        owner = owner_of(client, device, application, chosen_fleet(ctx, fleet))
        text = {"none": "", "all": "1-65535"}.get(wanted, wanted)
        client.set_reachable_ports(owner, text)
        kept = client.reachable_ports(owner)
    say(f"{owner.name}: members reach {_shown(kept, is_fleet=True)}")


@ports_app.command("clear")
def clear_ports(
    ctx: typer.Context,
    device: DeviceOption = None,
    application: ApplicationOption = None,
    fleet: FleetOption = None,
) -> None:
    """Have no list: a device has its fleet's then, a fleet all ports."""
    with client_of(ctx, fleet) as client:
        owner = owner_of(client, device, application, chosen_fleet(ctx, fleet))
        client.set_reachable_ports(owner, None)
    say(f"{owner.name}: members reach {_shown(None, is_fleet=not isinstance(owner, Device))}")


def _named(owner: Application | Device) -> str:
    return f"device {owner.name}" if isinstance(owner, Device) else f"fleet {owner.slug}"


def _shown(text: str | None, *, is_fleet: bool) -> str:
    if text is None:
        return "all" if is_fleet else "as its fleet"
    return text or "none"

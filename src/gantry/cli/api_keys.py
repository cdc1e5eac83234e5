"""`gantry api-key`: keys for programs and devices; those for git are `gantry key`."""

from pathlib import Path
from typing import Annotated

import typer

from gantry.cli.context import FleetOption, JsonOption, client_of, complete_device
from gantry.cli.output import moment, print_json, print_table, say
from gantry.cli.times import end_of
from gantry.client import session
from gantry.client.errors import UsageError

key_app = typer.Typer(help="API keys, for programs.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(key_app, name="api-key")


@key_app.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it.")],
    expires: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="30d, 12h, 2w or 2030-01-31; default: never."),
    ] = None,
    description: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    application: Annotated[
        str | None,
        typer.Option("--application", "-a", metavar="APP", help="It registers devices there."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="It is this device's.", autocompletion=complete_device),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A file (mode 0600), else stdout.")
    ] = None,
    fleet: FleetOption = None,
) -> None:
    """Make a key that may do what you may, or what one application or device may.

    It is shown this once.
    """
    if application and device:
        raise UsageError("a key is of an application or of a device: name one")
    until = end_of(expires)
    with client_of(ctx, fleet) as client:
        if device:
            kind, owner = "device", client.device(device).id
        elif application:
            kind, owner = "application", client.application(application).id
        else:
            kind, owner = "user", client.whoami().id
        key = client.account.create_api_key(kind, owner, name, description, until)
    if output is None:
        print(key)
        return
    session.write_private(output.absolute(), f"{key}\n")
    say(f"{output}: the key {name}")


@key_app.command("list")
def list_keys(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Those of your applications and devices too.")
    ] = False,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """Your API keys."""
    with client_of(ctx, fleet) as client:
        keys = client.account.api_keys(of_all=everything)
    if as_json:
        print_json(keys)
        return
    rows = [
        (
            str(each.id),
            each.name,
            each.role,
            each.owner,
            moment(each.created_at),
            moment(each.expires_at) or "never",
        )
        for each in keys
    ]
    columns = ("id", "name", "role", "of", "made", "expires")
    print_table(columns, rows, "no API keys: `gantry api-key create NAME`")


@key_app.command("rm")
def remove(
    ctx: typer.Context,
    key: Annotated[int, typer.Argument(help="Its id; `gantry api-key list` has them.")],
    fleet: FleetOption = None,
) -> None:
    """Revoke a key: it opens nothing from now on."""
    with client_of(ctx, fleet) as client:
        client.account.remove_api_key(key)
    say(f"API key {key} revoked")

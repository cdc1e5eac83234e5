"""`gantry config generate`: what a new device starts from."""

import json
from pathlib import Path
from typing import Annotated

import typer

from gantry.cli.context import application_of, chosen_fleet
from gantry.cli.output import say
from gantry.client import session

config_app = typer.Typer(help="config.json of new devices.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(config_app, name="config")


@config_app.command("generate")
def generate(
    ctx: typer.Context,
    fleet: Annotated[
        str | None,
        typer.Option("--fleet", metavar="NAME", help="The fleet that the devices will be of."),
    ] = None,
    application: Annotated[
        str | None,
        typer.Option("--application", "-a", metavar="APP", help="If not called as the fleet is."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A file (mode 0600), else stdout.")
    ] = None,
    device_type: Annotated[
        str | None, typer.Option("--device-type", help="If another than the fleet's own.")
    ] = None,
) -> None:
    """Make a config.json. It holds a key that registers devices: keep it as a secret."""
    from gantry.client.api_client import open_fleet

    # `--fleet` means a cloud side where one is logged in to such; else an application of the
    # chosen one, for people say fleet to both, and mostly they bear one name.
    cloud = chosen_fleet(ctx, fleet if fleet in session.logged_in() else None)
    with open_fleet(cloud) as client:
        found = application_of(client, application or fleet, cloud)
        config = client.download_config(found, device_type)
    text = json.dumps(config, indent=2) + "\n"
    if output is None:
        print(text, end="")
        return
    session.write_private(output.absolute(), text)
    say(f"{output}: for devices of {found.slug}")

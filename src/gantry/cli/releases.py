"""`gantry releases`: what was built, and the logs of builds."""

from typing import Annotated

import typer

from gantry.cli.context import ApplicationOption, FleetOption, JsonOption, client_of
from gantry.cli.output import coloured, moment, print_json, print_table, say

STATUS_COLOURS = {"success": "green", "running": "yellow", "failed": "red", "cancelled": "dim"}

releases_app = typer.Typer(help="What was built.")


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(releases_app, name="releases", invoke_without_command=True)


@releases_app.callback(invoke_without_command=True)
def releases(
    ctx: typer.Context,
    application: ApplicationOption = None,
    number: Annotated[int, typer.Option("-n", min=1, help="How many, the newest first.")] = 20,
    as_json: JsonOption = False,
    fleet: FleetOption = None,
) -> None:
    """What was built."""
    if ctx.invoked_subcommand:
        return
    with client_of(ctx, fleet) as client:
        of = client.application(application) if application else None
        found = client.releases(of, number)
    if as_json:
        print_json(found)
        return
    columns = ("id", "fleet", "commit", "version", "status", "target", "created", "finished", "")
    rows = [
        (
            str(each.id),
            each.application,
            each.commit[:7],
            each.version,
            coloured(each.status, STATUS_COLOURS),
            "*" if each.is_target else "",
            moment(each.created_at),
            moment(each.ended_at),
            f"images removed {moment(each.removed_at)}" if each.removed_at else "",
        )
        for each in found
    ]
    print_table(columns, rows, "no releases: push one; `gantry remote` says where")


@releases_app.command("keep")
def keep(
    ctx: typer.Context,
    release: Annotated[int, typer.Argument(help="Its id; `gantry releases` has them.")],
    off: Annotated[bool, typer.Option("--off", help="It need not be kept any more.")] = False,
    fleet: FleetOption = None,
) -> None:
    """Have the registry keep a release's images, whatever is collected."""
    with client_of(ctx, fleet) as client:
        client.space.keep(release, not off)
    say(f"release {release}: {'goes when nobody needs it' if off else 'kept'}")


@releases_app.command("log")
def log(
    ctx: typer.Context,
    release: Annotated[int, typer.Argument(help="Its id; `gantry releases` has them.")],
    fleet: FleetOption = None,
) -> None:
    """The whole output of a release's build."""
    with client_of(ctx, fleet) as client:
        text = client.build_log(release)
    print(text, end="" if text.endswith("\n") else "\n")

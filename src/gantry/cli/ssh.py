"""`gantry ssh`: a shell on a device or in one of its services, or one command there."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from typer._click import Context  # typer's own copy of click, which it makes public nowhere else
from typer.core import TyperCommand

from gantry.cli.context import DeviceArgument, FleetOption, chosen_fleet, client_of

_COMMAND = "gantry.ssh.command"

IdentityOption = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        "-i",
        metavar="FILE",
        help="Log in with this private key alone; default: ssh's, those of your account first.",
    ),
]


class _WithCommand(TyperCommand):
    """What follows `--` is a command, and not arguments of ours."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            args, ctx.meta[_COMMAND] = args[:at], args[at + 1 :]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command(cls=_WithCommand, rich_help_panel="Devices from afar")(ssh)


def ssh(
    ctx: typer.Context,
    device: DeviceArgument,
    service: Annotated[
        str | None, typer.Argument(help="One of its services; default: the host itself.")
    ] = None,
    identity: IdentityOption = None,
    fleet: FleetOption = None,
) -> None:
    """A shell on a device's host or in a service; or, after `--`, a command there.

    Several words arrive there as they are (`-- ls 'my file'`), one alone is a line for the shell
    (`-- 'ls | wc -l'`). It ends with the command's exit code. Your SSH key must be in your account:
    `gantry key add`.
    """
    from gantry.cli import remote
    from gantry.client.device_ssh import host_command, service_command, ssh_words

    words: list[str] = ctx.meta.get(_COMMAND, [])
    tty = sys.stdin.isatty() and sys.stdout.isatty()
    name = chosen_fleet(ctx, fleet)
    with client_of(ctx, fleet) as client:
        found = remote.reachable(client, name, device)
        with remote.way(client, name, found, identity) as way:
            command = (
                host_command(words) if service is None else service_command(service, words, tty=tty)
            )
            line = ssh_words(way.login, tty=tty) + ([] if command is None else [command])
            code = remote.run(line, way)
    raise typer.Exit(code)

"""The `gantry` command: one typer app of all commands, and how errors end."""

import os
import signal
import sys
import threading
from types import FrameType
from typing import Annotated, Any

import typer

from gantry import __version__
from gantry.cli import (
    account,
    actions,
    api_keys,
    bundle,
    config,
    cp,
    delta,
    device_group,
    devices,
    env,
    fleets,
    lazy,
    logs,
    ports,
    query,
    registry,
    releases,
    second_factor,
    ssh,
    tag,
    tunnel,
)
from gantry.cli.context import Globals
from gantry.client.errors import ClientError, ExitCode

STACK_COMMANDS = {
    "up": "Deploy a fleet's cloud side, or bring it up to date.",
    "connect": "Let this machine know a fleet that is up: names, host key, login.",
    "preview": "Show what `up` would change. Changes nothing.",
    "refresh": "Look at what is deployed and correct the state.",
    "destroy": "Remove a fleet's cloud side; data volumes stay.",
    "outputs": "What the deployment tells: URLs, names, ports.",
    "export": "A deployment for `pulumi stack import`.",
}

BACKUP_COMMANDS = {
    "backup": "Save a fleet's whole state, while it runs.",
    "restore": "Make a fleet's data from a backup, for `up`.",
}

HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="gantry",
    help="A fleet of Raspberry Pis: git push, and every device runs it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=HELP,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"gantry {__version__}")
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    fleet: Annotated[
        str | None,
        typer.Option(
            "--fleet",
            "-f",
            metavar="NAME",
            help="The fleet's cloud side; default: GANTRY_FLEET, else the one that you are logged "
            "in to, else devbots.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it and end.")
    ] = False,
) -> None:
    """Options for all commands."""
    ctx.obj = Globals(fleet)
    if fleet:
        os.environ["GANTRY_FLEET"] = fleet  # for `device`, which has options of its own


def _stack() -> typer.Typer:
    from gantry.cli import stack

    found = typer.Typer(pretty_exceptions_enable=False, context_settings=HELP)
    stack.register(found)
    return found


def _push() -> typer.Typer:
    from gantry.cli import push

    found = typer.Typer(pretty_exceptions_enable=False, context_settings=HELP)
    push.register(found)
    found.callback()(lambda: None)
    return found


def _simulate() -> typer.Typer:
    from gantry.cli import simulate

    found = typer.Typer(pretty_exceptions_enable=False, context_settings=HELP)
    simulate.register(found)
    found.callback()(lambda: None)
    return found


def _backup() -> typer.Typer:
    from gantry.cli import backup

    found = typer.Typer(pretty_exceptions_enable=False, context_settings=HELP)
    backup.register(found)
    return found


_MODULES = (
    account,
    second_factor,
    api_keys,
    fleets,
    devices,
    device_group,
    actions,
    ssh,
    tunnel,
    cp,
    ports,
    releases,
    registry,
    bundle,
    delta,
    env,
    tag,
    logs,
    config,
    query,
)
for _module in _MODULES:
    _module.register(app)
lazy.mount(
    app,
    "push",
    "Run a tree on a device in local mode; changed files follow.",
    _push,
    "This machine",
)
lazy.mount(
    app,
    "simulate",
    "Many devices at once, to see what a fleet's cloud side bears.",
    _simulate,
    "This machine",
)
for _name, _summary in STACK_COMMANDS.items():
    lazy.mount(app, _name, _summary, _stack, "Deployment")


for _name, _summary in BACKUP_COMMANDS.items():
    lazy.mount(app, _name, _summary, _backup, "Deployment")


def main() -> None:
    """Run the command; ends the process with one of the codes of `ExitCode`."""
    debug = os.environ.get("GANTRY_DEBUG") == "1"
    interrupted = threading.Event()
    _watch_for_interrupts(interrupted)
    try:
        app(prog_name="gantry")
    except SystemExit as end:
        # typer says 1 to Ctrl-C.
        sys.exit(ExitCode.INTERRUPTED if interrupted.is_set() and end.code == 1 else end.code)
    except ClientError as error:
        if debug:
            raise
        _end(f"gantry: {error}", error.code)
    except Exception as error:
        if debug:
            raise
        kind = type(error).__name__
        _end(
            f"gantry: this should not happen: {kind}: {error} (GANTRY_DEBUG=1 shows where)",
            ExitCode.FAILED,
        )


def _watch_for_interrupts(interrupted: threading.Event) -> None:
    def note(number: int, frame: FrameType | None) -> None:
        interrupted.set()
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, note)


def _end(sentence: str, code: ExitCode) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()

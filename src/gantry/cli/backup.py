"""`gantry backup STACK` and `gantry restore STACK FOLDER`: a fleet's whole state, in a folder."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from gantry.cli.context import complete_stack
from gantry.client.errors import ExitCode
from gantry.deployment import paths
from gantry.deployment.backup.manifest import MIB, BackupError, check
from gantry.deployment.backup.restore import restore
from gantry.deployment.backup.save import save
from gantry.deployment.engine import Engine, EngineError, UnknownStackError
from gantry.deployment.engine.builtin import refuse_other_owner
from gantry.deployment.engine.project import load
from gantry.deployment.progress import line_printer

Stack = Annotated[str, typer.Argument(help="The fleet.", autocompletion=complete_stack)]
Folder = Annotated[Path, typer.Argument(help="What `gantry backup` wrote.")]
To = Annotated[
    Path | None,
    typer.Option("--to", metavar="FOLDER", help="A new folder; default: <fleet>-<time> here."),
]
Check = Annotated[bool, typer.Option("--check", help="Only see whether the backup is whole.")]


def register(app: typer.Typer) -> None:
    """Mount the commands at the root of the command line."""
    app.command("backup", help="Save a fleet's whole state, while it runs.")(_backup)
    app.command("restore", help="Make a fleet's data from a backup, for `up`.")(_restore)


def _backup(stack: Stack, to: To = None) -> None:
    with _errors():
        folder = to or Path(f"{stack}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        made = save(stack, folder, line_printer())
        size = sum(each.bytes for each in made.parts.values()) / MIB
        typer.echo(f"{stack} is in {folder}: {len(made.parts)} parts, {size:.1f} MiB")
        typer.echo("It holds the fleet's secrets: keep it where nobody else reads")


def _restore(stack: Stack, folder: Folder, only_check: Check = False) -> None:
    with _errors():
        if only_check:
            made = check(folder, line_printer())
            typer.echo(f"{folder} is whole: {made.fleet}, {made.made}, Gantry {made.gantry}")
            return
        _refuse_deployed(stack)
        made = restore(stack, folder, line_printer())
        typer.echo(f"{stack} is as it was at {made.made}. Next:")
        typer.echo(f"  gantry up {stack}")
        typer.echo(f"  gantry connect {stack}")


def _refuse_deployed(stack: str) -> None:
    """A state speaks of secrets that the restored ones are not.

    Raises:
        EngineError: there is one.
    """
    try:
        Engine(stack).outputs()
    except UnknownStackError:
        # On a new machine, the stack's file comes from the backup.
        if paths.stack_file(stack).exists():
            refuse_other_owner(paths.config_home(), load(paths.project_root(), stack).name, stack)
        return
    raise EngineError(f"{stack} is deployed: `gantry destroy {stack}` first (data volumes stay)")


@contextmanager
def _errors() -> Iterator[None]:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (BackupError, EngineError) as error:
        typer.secho(f"gantry: {error}", fg="red", err=True)
        raise typer.Exit(ExitCode.FAILED) from error
    except KeyboardInterrupt as error:
        typer.secho("stopped; nothing is left behind", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from error

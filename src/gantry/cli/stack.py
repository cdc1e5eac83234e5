"""`gantry up|connect|preview|refresh|destroy|outputs|export STACK`: the cloud side of a fleet."""

import json
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from gantry.cli.context import complete_stack
from gantry.cli.output import print_json, print_table
from gantry.client.errors import ExitCode
from gantry.deployment import fleet_objects, quickstart, virtual_device
from gantry.deployment.backup.manifest import BackupError
from gantry.deployment.backup.restore import refuse_half_restored
from gantry.deployment.engine import Engine, EngineError, Op, Result, Step, UnknownStackError
from gantry.deployment.engine.pulumi_cli import PulumiCli
from gantry.deployment.engine.render import ConsoleReporter, diff, summary
from gantry.deployment.engine.state import write_private
from gantry.deployment.engine.values import mask
from gantry.deployment.virtual_device import DeviceError


class EngineName(StrEnum):
    PULUMI = "pulumi"
    BUILTIN = "builtin"


Stack = Annotated[
    str,
    typer.Argument(
        help="The fleet: a file stacks/Pulumi.<STACK>.yaml.", autocompletion=complete_stack
    ),
]
Which = Annotated[
    EngineName | None,
    typer.Option("--engine", help="Default: the Pulumi CLI where it is installed, else builtin."),
]
Refresh = Annotated[bool, typer.Option("--refresh", help="First look what is really there.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ShowSecrets = Annotated[bool, typer.Option("--show-secrets", help="Secrets in plain text.")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
File = Annotated[Path | None, typer.Option("--file", help="Write there (mode 0600), not stdout.")]


def register(app: typer.Typer) -> None:
    """Mount the commands at the root of the command line."""
    app.command("up", help="Deploy a fleet's cloud side, or bring it up to date.")(_up)
    app.command("connect", help="Let this machine know a fleet: names, ssh, login.")(_connect)
    app.command("preview", help="Show what `up` would change. Changes nothing.")(_preview)
    app.command("refresh", help="Look at what is deployed and correct the state.")(_refresh)
    app.command("destroy", help="Remove a fleet's cloud side; data volumes stay.")(_destroy)
    app.command("outputs", help="What the deployment tells: URLs, names, ports.")(_outputs)
    app.command("export", help="A deployment for `pulumi stack import`.")(_export)


def _up(stack: Stack, engine: Which = None, refresh: Refresh = False) -> None:
    with _errors():
        refuse_half_restored(stack)
    _work(stack, engine, lambda e: e.up(refresh))


def _preview(stack: Stack, engine: Which = None, json_: Json = False) -> None:
    if json_:
        _preview_json(stack, engine)
        return
    _work(stack, engine, lambda e: e.preview(), done=False)


def _preview_json(stack: str, name: EngineName | None) -> None:
    """What `up` would change, one object a step; of the Pulumi CLI, its own JSON."""
    with _errors():
        engine = _choose(stack, name, None)
        if isinstance(engine, PulumiCli):
            engine.preview(as_json=True)
            return
        steps = engine.preview().steps
    changing = [step for step in steps if step.op is not Op.SAME]
    print_json([as_fields(step) for step in changing])


def as_fields(step: Step) -> dict[str, Any]:
    """A step for programs, without its secrets."""
    changes = [
        {"path": each.path, "old": mask(each.old), "new": mask(each.new)} for each in step.changes
    ]
    known = {"op": step.op, "type": step.type, "name": step.name, "changes": changes}
    return known | {"replaces": list(step.replaces)}


def _refresh(stack: Stack, engine: Which = None) -> None:
    _work(stack, engine, lambda e: e.refresh())


def _destroy(stack: Stack, engine: Which = None, yes: Yes = False) -> None:
    _refuse_with_devices(stack)
    if not yes and not typer.confirm(f"Remove the cloud side of {stack}? Data volumes stay."):
        raise typer.Exit(ExitCode.FAILED)
    _work(stack, engine, lambda e: e.destroy())


def _connect(stack: Stack) -> None:
    try:
        quickstart.connect(stack)
    except quickstart.QuickstartError as error:
        typer.secho(str(error), fg="red", err=True)
        raise typer.Exit(ExitCode.FAILED) from error


def _refuse_with_devices(stack: str) -> None:
    """Virtual devices hold the fleet's network, which would fail half-way."""
    with _errors():
        names = virtual_device.names_of(stack)
    if names:
        listed = " ".join(names)
        typer.secho(
            f"gantry: virtual devices of {stack} are on its network: first "
            f"`gantry device stop {listed} --keep` (without --keep, their data go too)",
            fg="red",
            err=True,
        )
        raise typer.Exit(ExitCode.FAILED)


def _outputs(
    stack: Stack, engine: Which = None, json_: Json = False, show_secrets: ShowSecrets = False
) -> None:
    with _errors():
        found = _choose(stack, engine, None).outputs(show_secrets)
    if json_:
        typer.echo(json.dumps(found, indent=2, sort_keys=True))
        return
    print_table(("output", "value"), flat(found), f"{stack} tells nothing")


def flat(outputs: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values for people, by name: one row for each part of a nested value."""
    rows: list[tuple[str, str]] = []
    for name, value in sorted(outputs.items()):
        if isinstance(value, Mapping):
            rows += [(f"{name}.{part}", text) for part, text in flat(value)]
        else:
            rows.append((name, value.rstrip() if isinstance(value, str) else json.dumps(value)))
    return rows


def _export(
    stack: Stack,
    engine: Which = None,
    show_secrets: ShowSecrets = False,
    file: File = None,
) -> None:
    with _errors():
        text = json.dumps(_choose(stack, engine, None).export(show_secrets), indent=2)
    if file:
        write_private(file, text)
    elif show_secrets and sys.stdout.isatty():
        typer.echo("secrets are not shown on a terminal: add --file PATH", err=True)
        raise typer.Exit(ExitCode.FAILED)
    else:
        typer.echo(text)


def _work(
    stack: str,
    name: EngineName | None,
    action: Callable[[Engine | PulumiCli], Result | None],
    done: bool = True,
) -> None:
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _errors(), ConsoleReporter(console) as reporter:
        engine = _choose(stack, name, reporter)
        console.print(f"{stack}: deployed with the {engine.name} engine", style="bold")
        if isinstance(engine, Engine) and not engine.state_file.exists():
            _look_for_earlier(engine, console)
        result = action(engine)
    if result:
        if not done:
            for line in diff(result.steps):
                console.print(line)
        console.print(summary(result, done))


def _look_for_earlier(engine: Engine, console: Console) -> None:
    """Without a state the services of an earlier one would end `up` half-way, at their names, and
    `destroy` would leave them. Its data volumes are found and used: that is only said.

    Raises:
        EngineError: services are there.
    """
    found = fleet_objects.of_fleet(engine.stack)
    if found.services:
        raise EngineError(
            f"{', '.join(found.services)}: there already, but {engine.state_file} is not: put it "
            "back, or deploy as the user who has it. If it is lost, docs/runbooks/backup.md, "
            '"State or passphrase lost", has the way on; data stay'
        )
    if found.volumes:
        console.print(
            f"data volumes of {engine.stack} are there from before ({len(found.volumes)}): "
            "`up` goes on with them"
        )


def _choose(
    stack: str, name: EngineName | None, reporter: ConsoleReporter | None
) -> Engine | PulumiCli:
    if name is None:
        name = EngineName.PULUMI if shutil.which("pulumi") else EngineName.BUILTIN
    if name is EngineName.PULUMI:
        return PulumiCli(stack)
    return Engine(stack, reporter=reporter)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (EngineError, DeviceError, BackupError) as error:
        typer.secho(str(error), fg="red", err=True)
        unknown = isinstance(error, UnknownStackError)
        raise typer.Exit(ExitCode.NOT_FOUND if unknown else ExitCode.FAILED) from error
    except KeyboardInterrupt as error:
        typer.secho("stopped after the running steps; the next `up` goes on", err=True)
        raise typer.Exit(ExitCode.INTERRUPTED) from error

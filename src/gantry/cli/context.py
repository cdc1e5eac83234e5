"""What all commands share: which fleet is meant, and a client for it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gantry.client import session

if TYPE_CHECKING:
    from gantry.client.api_client import ApiClient
    from gantry.client.records import Application

FleetOption = Annotated[
    str | None,
    typer.Option(
        "--fleet", metavar="NAME", help="The fleet's cloud side.", rich_help_panel="Global"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
ApplicationOption = Annotated[
    str | None,
    typer.Option(
        "--application", "-a", metavar="APP", help="Name or user/name; default: the fleet's name."
    ),
]


@dataclass(frozen=True, slots=True)
class Globals:
    """The options before the command."""

    fleet: str | None = None


def chosen_fleet(ctx: typer.Context, fleet: str | None) -> str:
    """The fleet: named after the command, before it, or the default."""
    given = ctx.find_root().obj
    before = given.fleet if isinstance(given, Globals) else None
    return session.choose_fleet(fleet or before)


def client_of(ctx: typer.Context, fleet: str | None) -> "ApiClient":
    """A client of the chosen fleet, with the session that was kept."""
    from gantry.client.api_client import open_fleet

    return open_fleet(chosen_fleet(ctx, fleet))


def application_of(client: "ApiClient", name: str | None, fleet: str) -> "Application":
    """The application that was named; without a name, the one that bears the fleet's."""
    return client.application(name or fleet)


def complete_device(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of devices for the shell. Whatever fails: no proposals."""
    try:
        with client_of(ctx, None) as client:
            names = [each.name for each in client.devices()]
    except Exception:
        return []
    return [name for name in names if name.startswith(incomplete)]


DeviceArgument = Annotated[
    str,
    typer.Argument(
        metavar="DEVICE", help="Name, id, or beginning of a uuid.", autocompletion=complete_device
    ),
]


def complete_stack(incomplete: str) -> list[str]:
    """Names of stacks for the shell. Whatever fails: no proposals."""
    from gantry.deployment.paths import project_root

    try:
        files = (project_root() / "stacks").glob("Pulumi.*.yaml")
        names = [file.name.removeprefix("Pulumi.").removesuffix(".yaml") for file in files]
    except OSError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))


def stack_url(fleet: str) -> str | None:
    """The api's URL as the fleet's stack file has it, when there is a checkout with one."""
    from gantry.deployment.paths import stack_file

    try:
        path: Path = stack_file(os.path.basename(fleet))
        import yaml

        config = yaml.safe_load(path.read_text())["config"]
        host, port = (
            config.get("gantry:host", f"{fleet}.gantry.internal"),
            int(config["gantry:httpsPort"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return f"https://api.{host}" if port == 443 else f"https://api.{host}:{port}"

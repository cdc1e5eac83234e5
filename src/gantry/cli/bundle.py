"""`gantry bundle`: releases as files, for devices without network."""

from pathlib import Path
from typing import Annotated

import typer

from gantry.cli.context import FleetOption, chosen_fleet, client_of
from gantry.cli.output import Percent, say
from gantry.client.errors import UsageError
from gantry.contracts.bundle import SUFFIX

bundle_app = typer.Typer(help="Releases as files, for devices without network.")


def register(app: typer.Typer) -> None:
    """Mount the commands."""
    app.add_typer(bundle_app, name="bundle", no_args_is_help=True)


@bundle_app.command("create")
def create(
    ctx: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="APP[/RELEASE]",
            help="An application, as name or user/name; then a release, as commit, version or id. "
            "Without: what its devices should run.",
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; default: here, by its names.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device", metavar="DEVICE", help="For this device alone, with its own variables."
        ),
    ] = None,
    fleet: FleetOption = None,
) -> None:
    """Write a release with all that it needs into one file."""
    from gantry.client import bundles

    with client_of(ctx, fleet) as client:
        wanted = bundles.find(client, what, device)
        name = f"{wanted.application.name}-{wanted.release.commit[:7]}{SUFFIX}"
        path = output or Path(name)
        if path.is_dir():
            path = path / name
        if not path.name.endswith(SUFFIX):
            say(f"{path.name}: a device takes files that end in {SUFFIX}")
        index = bundles.create(client, chosen_fleet(ctx, fleet), wanted, path, Percent())
    mib = path.stat().st_size / 1024**2
    say(f"release {index.commit[:7]} with {len(index.images)} images, {mib:.1f} MiB")
    print(path)


@bundle_app.command("apply")
def apply(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle.")],
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS",
            help="The device: a host for ssh ([user@]host), or the supervisor's http://host:48484.",
        ),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Also a release that is not newer than the device's.")
    ] = False,
    port: Annotated[int, typer.Option("--port", "-p", min=1, max=65535, help="Of ssh.")] = 22222,
    key_file: Annotated[
        Path | None,
        typer.Option(
            "--key-file", help="The supervisor's API key, for http; - is stdin.", dir_okay=False
        ),
    ] = None,
) -> None:
    """Bring a bundle to a device in reach, and wait until it has taken it or refused it."""
    from gantry.client import bundle_apply

    index = bundle_apply.look(path)  # what is no whole bundle is said here, and not sent
    say(f"release {index.commit[:7]} of {index.fleet_slug}")
    if address.startswith(("http://", "https://")):
        if key_file is None:
            raise UsageError("http needs the supervisor's API key: --key-file FILE")
        key = bundle_apply.read_key(key_file)
        message = bundle_apply.by_http(path, address, key, force, _told())
    else:
        message = bundle_apply.by_ssh(path, address, port, force, _told())
    print(message)


@bundle_app.command("show")
def show(path: Annotated[Path, typer.Argument(metavar="FILE", help="A bundle.")]) -> None:
    """What is in a bundle, for programs; every part is verified."""
    from dataclasses import asdict

    from gantry.cli.output import print_json
    from gantry.client import bundle_apply

    index = bundle_apply.verify(path)
    print_json(asdict(index))


def _told() -> "_Told":
    return _Told()


class _Told:
    """Says what a device says, each once."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, sentence: str) -> None:
        if sentence != self._last:
            self._last = sentence
            say(sentence)

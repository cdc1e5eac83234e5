"""`gantry push ADDRESS`: build and run a tree on a device in local mode, and keep it in step."""

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from gantry.cli.context import FleetOption, chosen_fleet
from gantry.cli.logs import print_line
from gantry.cli.output import console, plain, say
from gantry.client import session
from gantry.client.api_client import open_fleet
from gantry.client.errors import ClientError
from gantry.local import device_api, engine
from gantry.local.device_api import DeviceApi, bracketed
from gantry.local.engine import LocalEngine
from gantry.local.errors import LocalError
from gantry.local.images import Images, RegistryAccess
from gantry.local.session import Push, Wishes


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command()(push)


def push(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(help="The device's address or name in the network.")],
    source: Annotated[
        Path,
        typer.Option("--source", metavar="FOLDER", help="The tree.", exists=True, file_okay=False),
    ] = Path("."),
    build_here: Annotated[
        bool, typer.Option("--build-here", help="Build on this machine and send images over.")
    ] = False,
    nolive: Annotated[
        bool, typer.Option("--nolive", help="Bring no changed files; only follow the log.")
    ] = False,
    detached: Annotated[
        bool, typer.Option("--detached", "-d", help="End once it runs: no log, no live sync.")
    ] = False,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="[SERVICE:]NAME=VALUE", help="A variable; may be repeated."),
    ] = None,
    service: Annotated[
        list[str] | None, typer.Option(help="Show lines of this service alone; may be repeated.")
    ] = None,
    system: Annotated[
        bool, typer.Option("--system", help="With --service: the supervisor's lines too.")
    ] = False,
    nocache: Annotated[bool, typer.Option("--nocache", help="Build without the cache.")] = False,
    supervisor_port: Annotated[int, typer.Option(help="Of the supervisor.")] = device_api.PORT,
    engine_port: Annotated[int, typer.Option(help="Of the device's engine.")] = engine.PORT,
    fleet: FleetOption = None,
) -> None:
    """Run a tree on a device in local mode. Changed files follow; Ctrl-C ends."""
    wishes = Wishes(source.resolve(), tuple(env or ()), tuple(service or ()), system)
    with ExitStack() as closing:
        api = DeviceApi(address, supervisor_port)
        closing.callback(api.close)
        device = api.device_type()
        say(f"{address} is a {device.name}")
        remote = LocalEngine(f"tcp://{bracketed(address)}:{engine_port}", address)
        closing.callback(remote.close)
        here = LocalEngine(None, "this machine") if build_here else None
        if here is not None:
            closing.callback(here.close)
        platform = device.architecture.platform
        images = Images(remote, here, platform, lambda: _access(chosen_fleet(ctx, fleet)), nocache)
        closing.callback(images.close)
        out, colours = console(), dict[str, str]()
        one = Push(
            api,
            remote,
            images,
            device,
            wishes,
            _say,
            lambda line: print_line(out, line, colours),
        )
        try:
            _carry_out(one, detached, nolive)
        except KeyboardInterrupt:
            say("ended; the device runs on with what it has")


def _carry_out(push: Push, detached: bool, nolive: bool) -> None:
    if not detached:
        push.follow_logs()
    try:
        push.run()
        push.wait_until_running()
        if detached:
            return
        if nolive:
            threading.Event().wait()
        push.live()
    finally:
        push.end()


def _access(fleet: str) -> RegistryAccess:
    """The registry of the fleet that this user is logged in to."""
    try:
        kept = session.load(fleet)
        with open_fleet(fleet) as client:
            return RegistryAccess(client.fleet_config().registry, kept.username, kept.token)
    except ClientError as error:
        raise LocalError(
            f"the tree names base images of the fleet, which the device has not: {error}"
        ) from error


def _say(line: str) -> None:
    say(plain(line))

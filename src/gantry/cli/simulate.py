"""`gantry simulate`: many devices at once, to see what a fleet's cloud side bears."""

import asyncio
import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gantry.cli.context import ApplicationOption, FleetOption, chosen_fleet, client_of
from gantry.cli.output import print_table, say
from gantry.client.errors import ClientError, ExitCode, NotFoundError, UsageError
from gantry.deployment.provisioning import read_config
from gantry.deployment.virtual_device import DeviceError
from gantry.simulator import results
from gantry.simulator.loopback import NotLoopbackError
from gantry.simulator.simulation import Plan, Simulation

if TYPE_CHECKING:
    from gantry.client.api_client import ApiClient

REQUEST_COLUMNS = ("request", "phase", "count", "p50 ms", "p95 ms", "p99 ms", "max ms")
RELEASE_COLUMNS = ("release", "", "devices", "p50 s", "p95 s", "p99 s", "max s")


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command()(simulate)


def simulate(
    ctx: typer.Context,
    devices: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 100,
    duration: Annotated[
        float, typer.Option(min=0, help="Seconds to go on for once all are started.")
    ] = 300.0,
    ramp: Annotated[
        float | None, typer.Option(min=0, help="Seconds to start them in; else 20 a second.")
    ] = None,
    time_scale: Annotated[
        float, typer.Option(min=1, max=1000, help="So many times as fast as real devices.")
    ] = 1.0,
    streams: Annotated[
        float, typer.Option(min=0, max=1, help="Share of them that follow announcements.")
    ] = 1.0,
    log_lines: Annotated[
        float, typer.Option("--logs", min=0, help="Log lines of each service in a minute.")
    ] = 0.0,
    seed: Annotated[
        int | None,
        typer.Option(help="The same devices each time. Who knows it can act as they do."),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(metavar="COMMIT", help="A release to set as the application's target."),
    ] = None,
    release_after: Annotated[
        float | None, typer.Option(min=0, help="When; else in the middle of the duration.")
    ] = None,
    watch: Annotated[
        list[str] | None,
        typer.Option(metavar="CONTAINER|PID", help="Servers to look at; may be repeated."),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Let the fleet forget them afterwards.")
    ] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Figures for programs.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="config.json to start from; else asked of the api.")
    ] = None,
    application: ApplicationOption = None,
    fleet: FleetOption = None,
) -> None:
    """Simulate devices against a fleet on this machine, and say how it bore them."""
    name = chosen_fleet(ctx, fleet)
    plan = Plan(
        devices=devices,
        duration=duration,
        ramp=devices / 20 if ramp is None else ramp,
        scale=time_scale,
        seed=seed,
        streams=streams,
        lines=log_lines,
        release_after=duration / 2 if release_after is None else release_after,
    )
    with client_of(ctx, fleet) as client:
        of = client.application(application or name)
        setter = _setter(client, of.id, release) if release else None
        try:
            if config is None:
                document = client.download_config(of, key_name="gantry simulate")
            else:
                document = read_config(config)
            made = Simulation(document, plan, say, setter, _roots(watch or []))
        except NotLoopbackError as error:
            raise UsageError(str(error)) from error
        except DeviceError as error:
            raise ClientError(str(error)) from error
        found, interrupted = asyncio.run(_run(made))
        _show(found, json_file)
        if remove:
            gone = client.remove_devices([each.uuid for each in made.devices])
            say(f"{gone} devices removed")
    if interrupted:
        raise typer.Exit(ExitCode.INTERRUPTED)
    if found["errors"]:
        raise typer.Exit(ExitCode.FAILED)


async def _run(simulation: Simulation) -> tuple[dict[str, Any], bool]:
    """The figures, and whether it was interrupted: then they are those until that moment."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    found = await simulation.run(stop)
    return found, stop.is_set()


def _setter(client: "ApiClient", application: int, commit: str) -> Callable[[], str]:
    """Sets the application's target to the release of this commit."""
    releases = client.releases()
    found = [each for each in releases if each.commit.startswith(commit)]
    if len(found) != 1:
        raise NotFoundError(f"{commit!r} is not one release: `gantry releases` has them")

    def set_target() -> str:
        client.set_target(application, found[0].id)
        return found[0].commit

    return set_target


def _roots(watched: list[str]) -> dict[str, int]:
    """The first process of each container or server."""
    return {each: int(each) if each.isdecimal() else _process(each) for each in watched}


def _process(container: str) -> int:
    import docker
    from docker.errors import DockerException

    try:
        client = docker.from_env()
        try:
            return int(client.containers.get(container).attrs["State"]["Pid"])
        finally:
            client.close()
    except DockerException as error:
        raise ClientError(f"the container {container} cannot be looked at: {error}") from error


def _show(found: Mapping[str, Any], json_file: Path | None) -> None:
    print_table(REQUEST_COLUMNS, results.request_rows(found), "no request was answered")
    if found["releases"]:
        print_table(RELEASE_COLUMNS, results.release_rows(found), "")
    for line in results.lines(found):
        print(line)
    if json_file is not None:
        try:
            json_file.write_text(json.dumps(found, indent=2) + "\n")
        except OSError as error:
            raise ClientError(f"{json_file} cannot be written: {error.strerror}") from error

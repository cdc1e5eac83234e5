"""The part of `gantry device` that needs an engine: virtual devices on this machine, and the
supervisor of real ones. `device_group` mounts it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import docker
import typer
from docker.errors import DockerException
from rich.console import Console
from rich.table import Table

from gantry.builder.bases import BaseError
from gantry.cli.context import complete_stack
from gantry.client.errors import ClientError, NotFoundError, UsageError
from gantry.contracts.device_types import Architecture
from gantry.deployment import provisioning, ssh_config, virtual_device
from gantry.deployment.images import BUILD_TIMEOUT_SECONDS, ImageError, build_image
from gantry.deployment.progress import line_printer
from gantry.deployment.virtual_device import DeviceError, DeviceSpec, UnknownDeviceError
from gantry.local import device_roads, supervisor_sync

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def complete_name(incomplete: str) -> list[str]:
    """Names of virtual devices for the shell. Whatever fails: no proposals."""
    try:
        with closing(docker.from_env()) as client:
            names = [each.name for each in virtual_device.devices(client)]
    except Exception:
        return []
    return [name for name in names if name.startswith(incomplete)]


Fleet = Annotated[
    str,
    typer.Option(
        "--fleet", "-F", envvar="GANTRY_FLEET", help="The fleet.", autocompletion=complete_stack
    ),
]
Name = Annotated[
    str,
    typer.Argument(
        help="The device's name; `gantry device list` has them.", autocompletion=complete_name
    ),
]


@contextmanager
def engine() -> Iterator[docker.DockerClient]:
    """The operator's engine. What fails with it is raised as one of the CLI's errors, which the
    command ends with."""
    try:
        client = docker.from_env(timeout=BUILD_TIMEOUT_SECONDS)
        try:
            yield client
        finally:
            client.close()
    except UnknownDeviceError as error:
        raise NotFoundError(str(error)) from error
    except (DeviceError, ImageError, BaseError, ssh_config.IdentityError) as error:
        raise ClientError(str(error)) from error
    except DockerException as error:
        raise ClientError(
            f"Docker: {error} (is it started, as `make setup` does, and may you use it?)"
        ) from error


@app.command()
def run(
    fleet: Fleet = "devbots",
    name: Annotated[str | None, typer.Option(help="Its name; else <fleet>-<number>.")] = None,
    count: Annotated[int, typer.Option(min=1, max=50, help="How many.")] = 1,
    application: Annotated[
        str | None, typer.Option(help="Application to join (user/name); else the fleet's name.")
    ] = None,
    supervisor_image: Annotated[
        str | None, typer.Option(help="Supervisor image; else the fleet's, else one built here.")
    ] = None,
    mount_source: Annotated[
        Path | None, typer.Option(help="A checkout whose supervisor replaces the image's.")
    ] = None,
    ssh: Annotated[bool, typer.Option("--ssh", help="Let your ssh key log in as root.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="config.json to start from; else asked of the api.")
    ] = None,
) -> None:
    """Start virtual devices; one that was kept or stopped goes on where it was."""
    say = line_printer()
    with engine() as client:
        taken = [each.name for each in virtual_device.devices(client)]
        names = virtual_device.free_names(fleet, count, name, taken)
        document = (
            provisioning.read_config(config)
            if config
            else provisioning.download_config(fleet, application)
        )
        if count > 1 and document.get("uuid"):
            raise DeviceError(f"{config} has a uuid: only one device can be that one")
        keys = ssh_config.ensure_identity().public.read_text() if ssh else ""
        supervisor = provisioning.choose_supervisor(
            document, supervisor_image, mount_source, client, say
        )
        image = build_image("virtual-device", say, client=client)
        for each in names:
            spec = DeviceSpec(each, fleet, document, supervisor, keys)
            virtual_device.run(spec, image.tag, client, say)
            print(each)
        if ssh:
            for state in virtual_device.devices(client, fleet):
                if state.name in names:
                    say(f"{virtual_device.ssh_command(state.address)}    # {state.name}")


@app.command("list")
def list_devices(
    fleet: Annotated[
        str | None,
        typer.Option("--fleet", "-F", help="Of one fleet only.", autocompletion=complete_stack),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the virtual devices of this machine."""
    with engine() as client:
        states = virtual_device.devices(client, fleet)
    if as_json:
        print(json.dumps([asdict(each) for each in states], indent=2))
        return
    table = Table("Name", "Fleet", "Status", "Health", "Address", "UUID", box=None)
    for each in states:
        table.add_row(each.name, each.fleet, each.status, each.health, each.address, each.uuid[:7])
    Console().print(table)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def logs(context: typer.Context, name: Name) -> None:
    """Print a device's journal. Options are journalctl's: `-f -n 100 -u gantry-supervisor`."""
    with engine() as client:
        virtual_device.get(name, client)
    command = virtual_device.journal_command(name, context.args)
    # The pipe is closed when this process ends, however it ends: see journal_command.
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            status = process.wait()
        except KeyboardInterrupt:
            status = 0
            process.terminate()
    raise typer.Exit(0 if status == 143 else status)


@app.command()
def stop(
    names: Annotated[
        list[str], typer.Argument(help="The devices' names.", autocompletion=complete_name)
    ],
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep its volumes, for a later run.")
    ] = False,
) -> None:
    """Remove devices and their volumes."""
    with engine() as client:
        for name in names:
            virtual_device.stop(name, client, line_printer(), keep=keep)


@app.command()
def refresh(name: Name) -> None:
    """Start a device's supervisor anew, with its mounted source as it is now."""
    with engine() as client:
        virtual_device.refresh(name, client, line_printer())


@app.command()
def sync(
    address: Annotated[str, typer.Argument(help="The device's address or name in the network.")],
    back: Annotated[
        bool, typer.Option("--back", help="The shipped supervisor again, instead.")
    ] = False,
    ssh: Annotated[
        bool, typer.Option("--ssh", help="By SSH, as root; else by the device's engine.")
    ] = False,
    ssh_port: Annotated[int, typer.Option(help="Of SSH.")] = device_roads.SSH_PORT,
    engine_port: Annotated[int, typer.Option(help="Of the device's engine.")] = 2377,
    source: Annotated[
        Path | None, typer.Option(help="Another checkout's src/gantry than this one's.")
    ] = None,
) -> None:
    """Run this checkout's supervisor on a real device; --back ends that."""
    root = source or Path(__file__).parents[1]
    if not (root / "supervisor" / "__main__.py").is_file():
        raise UsageError(f"{root} holds no supervisor: give a checkout's src/gantry")
    places = device_roads.Places()
    road: device_roads.Road = (
        device_roads.SshRoad(address, ssh_port)
        if ssh
        else device_roads.EngineRoad(address, engine_port, places)
    )
    with closing(road):
        if back:
            supervisor_sync.back(road, places, line_printer())
        else:
            supervisor_sync.sync(root, road, places, line_printer())


@app.command()
def build(
    tag: Annotated[str, typer.Option(help="A tag, or a whole reference (name:tag).")] = "latest",
    arch: Annotated[
        Architecture, typer.Option(help="For which architecture.")
    ] = Architecture.AMD64,
) -> None:
    """Build a supervisor image from this checkout, and print its reference."""
    with engine() as client:
        built = build_image("supervisor", line_printer(), arch=arch, client=client)
        reference = tag if ":" in tag or "/" in tag else f"gantry/{arch}-supervisor:{tag}"
        repository, _, label = (
            reference.rpartition(":") if ":" in reference else (reference, "", "")
        )
        client.images.get(built.tag).tag(repository, label or "latest")
        print(reference)

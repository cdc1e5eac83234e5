"""`gantry device`: what one device is to do, and devices that are containers of this machine."""

import typer

from gantry.cli import device_actions, lazy

VIRTUAL_COMMANDS = {
    "run": "Start virtual devices: containers on this machine that stand in for a Pi.",
    "list": "List the virtual devices of this machine.",
    "logs": "Print a virtual device's journal.",
    "stop": "Remove virtual devices and their volumes.",
    "refresh": "Start a virtual device's supervisor anew, with its mounted source.",
    "sync": "Run this checkout's supervisor on a real device; --back ends that.",
    "build": "Build a supervisor image from this checkout, and print its reference.",
}

device_app = typer.Typer(
    help="Act on a device: restart, update, read its journal. And virtual devices.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Mount the commands; those that need an engine are imported when they are called."""
    device_actions.register(device_app)
    for name, summary in VIRTUAL_COMMANDS.items():
        lazy.mount(device_app, name, summary, _virtual, "This machine")
    app.add_typer(device_app, name="device")


def _virtual() -> typer.Typer:
    from gantry.cli import device

    return device.app

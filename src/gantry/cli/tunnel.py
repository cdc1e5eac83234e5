"""`gantry tunnel`: ports of a device, here."""

import socket
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from gantry.cli.context import DeviceArgument, FleetOption, chosen_fleet, client_of
from gantry.cli.output import say
from gantry.client.errors import ClientError, ExitCode, UsageError

if TYPE_CHECKING:
    from gantry.client.tunnel import Target

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Forward:
    """A port here that leads to one of the device. `local` 0: any that is free."""

    address: str
    local: int
    remote: int


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command(rich_help_panel="Devices from afar")(tunnel)


def tunnel(
    ctx: typer.Context,
    device: DeviceArgument,
    ports: Annotated[
        list[str] | None,
        typer.Option(
            "--port",
            "-p",
            metavar="[ADDRESS:]LOCAL:REMOTE",
            help="A port here (0: any free one) and the device's; may be repeated. One number is "
            "both. ADDRESS: where to listen, default 127.0.0.1.",
        ),
    ] = None,
    stdio: Annotated[
        int | None, typer.Option("--stdio", metavar="PORT", min=1, max=65535, hidden=True)
    ] = None,
    fleet: FleetOption = None,
) -> None:
    """Ports of a device, here, until Ctrl-C. Each connection is one of your account's."""
    from gantry.cli import remote
    from gantry.client.tunnel import Target

    name = chosen_fleet(ctx, fleet)
    if bool(ports) == (stdio is not None):
        raise UsageError("which port? `-p 8080:80` brings the device's port 80 to 127.0.0.1:8080")
    forwards = [parse_forward(each) for each in ports or []]
    with client_of(ctx, fleet) as client:
        found = remote.reachable(client, name, device)
    if stdio is not None:
        from gantry.client.tunnel_stdio import carry

        carry(name, Target(found.uuid, stdio, found.name))
        return
    with ExitStack() as stack:
        for each in forwards:
            listener = stack.enter_context(listen(each))
            target = Target(found.uuid, each.remote, found.name)
            print(f"{_shown(listener.getsockname())} → {found.name}:{each.remote}", flush=True)
            if not each.address.startswith("127.") and each.address not in ("localhost", "::1"):
                say(f"whoever reaches {each.address} reaches {found.name} as you")
            threading.Thread(target=_serve, args=(listener, name, target), daemon=True).start()
        say("Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.OK) from None


def parse_forward(text: str) -> Forward:
    """`8080:80`, `80` (both), `0:80`, `192.0.2.1:8080:80` or `[::1]:8080:80`.

    Raises:
        UsageError: it is none of these.
    """
    address, local, remote = LOOPBACK, text, text
    if ":" in text:
        rest, _, remote = text.rpartition(":")
        address, colon, local = rest.rpartition(":")
        address = address.removeprefix("[").removesuffix("]") if colon else LOOPBACK
    wrong = UsageError(f"-p {text!r}: write LOCAL:REMOTE, such as 8080:80 or 0:80")
    if not (local.isdecimal() and remote.isdecimal() and address):
        raise wrong
    found = Forward(address, int(local), int(remote))
    if found.local > 65535 or not 1 <= found.remote <= 65535:
        raise wrong
    return found


def listen(wanted: Forward) -> socket.socket:
    """A socket that listens.

    Raises:
        ClientError: that port or address cannot be had.
    """
    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    try:
        return socket.create_server((wanted.address, wanted.local), family=family)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClientError(
            f"{wanted.address}:{wanted.local}: {reason}: take another port, or 0 for a free one"
        ) from error


def _serve(listener: socket.socket, fleet: str, target: "Target") -> None:
    while True:
        try:
            connection, peer = listener.accept()
        except OSError:
            return  # it was closed
        where = (connection, _shown(peer), fleet, target)
        threading.Thread(target=_carry, args=where, daemon=True).start()


def _carry(connection: socket.socket, peer: str, fleet: str, target: "Target") -> None:
    """One connection, to its end. Whatever it dies of, the others live."""
    from gantry.client.relay import relay
    from gantry.client.tunnel import dial
    from gantry.client.tunnel_stdio import LINGER_SECONDS

    with connection:
        say(f"{peer} → port {target.port}")
        try:
            opened = dial(fleet, target)
        except ClientError as error:
            say(f"{peer}: {error}")
            return
        done = relay(opened, connection.fileno(), connection.fileno(), LINGER_SECONDS)
        say(
            f"{peer} → port {target.port}: ended after {done.seconds:.1f} s, "
            f"{done.sent} bytes there, {done.received} back"
        )


def _shown(name: tuple[str, int]) -> str:
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

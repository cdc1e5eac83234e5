"""What `gantry tunnel`, `ssh` and `cp` share: the way into a device, and ssh as a child."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from gantry.cli.output import moment
from gantry.client import session
from gantry.client.device_ssh import Login, known_keys
from gantry.client.errors import (
    ClientError,
    NotAuthorisedError,
    NotFoundError,
    UnreachableError,
)
from gantry.client.tunnel_stdio import REPORT
from gantry.deployment.paths import fleet_home

if TYPE_CHECKING:
    from gantry.client.api_client import ApiClient
    from gantry.client.records import Device

SSH_FAILED = 255


def reachable(client: "ApiClient", fleet: str, reference: str) -> "Device":
    """The device that is meant, when it can be reached; the session knows the way then.

    Raises:
        UnreachableError: it is not connected to the VPN.
        ClientError: the fleet has no VPN; whatever `ApiClient.device` raises.
    """
    device = client.device(reference)
    kept = session.load(fleet)
    if kept.tunnel is None:
        place = client.tunnel_place()
        if place is None:
            raise ClientError(
                f"{fleet} has no VPN, so no way leads to {device.name}: its operator brings the "
                "fleet up to date with `gantry up`"
            )
        session.save(fleet, replace(kept, tunnel=place))
    if not device.is_vpn_connected:
        raise UnreachableError(f"{device.name} cannot be reached: {offline_text(device)}")
    return device


def offline_text(device: "Device") -> str:
    """Since when a device is not connected."""
    if device.vpn_since is None:
        return "it has never been connected to the VPN"
    return f"it is not connected to the VPN since {moment(device.vpn_since)}"


@dataclass(frozen=True, slots=True)
class Way:
    """A login, and a folder of ours for as long as it lasts. `ours`: whether one of the account's
    keys is among those that can be seen here."""

    login: Login
    folder: Path
    ours: bool

    @property
    def report(self) -> Path:
        """Where the ProxyCommand says how it failed."""
        return self.folder / "tunnel"

    @property
    def let_in(self) -> bool:
        """The device has accepted the login."""
        return (self.folder / "let-in").exists()


@contextmanager
def way(client: "ApiClient", fleet: str, device: "Device", identity: Path | None) -> Iterator[Way]:
    """A way to log in to a device, with one of the account's keys first.

    Raises:
        NotFoundError: `identity` is not there.
    """
    with tempfile.TemporaryDirectory(prefix="gantry-") as name:
        folder = Path(name)
        offered: tuple[Path, ...]
        if identity is not None:
            if not identity.exists():
                raise NotFoundError(f"there is no key {identity}")
            offered, ours = (identity,), False
        else:
            offered = _account_keys(client, folder)
            ours = bool(offered)
        login = Login(
            fleet=fleet,
            device=device,
            home=fleet_home(fleet),
            marker=folder / "let-in",
            identities=offered,
            only_those=identity is not None,
        )
        yield Way(login, folder, ours)


def _account_keys(client: "ApiClient", folder: Path) -> tuple[Path, ...]:
    """Keys of the user that the account has: of files in ~/.ssh, or of the agent."""
    lines: dict[str, str] = {}
    for path in sorted((Path.home() / ".ssh").glob("*.pub")):
        try:
            lines[str(path)] = path.read_text()
        except (OSError, UnicodeDecodeError):
            continue  # no key, or not ours to read
    for number, line in enumerate(_agent_lines()):
        # ssh finds the agent's key by its public half.
        path = folder / f"agent-{number}.pub"
        path.write_text(f"{line}\n")
        lines[str(path)] = line
    account = client.keys()
    known = known_keys(lines, {each.fingerprint for each in account})
    return tuple(_for_ssh(Path(each)) for each in known)


def _for_ssh(public: Path) -> Path:
    private = public.with_suffix("")
    return private if private.exists() else public


def _agent_lines() -> list[str]:
    if "SSH_AUTH_SOCK" not in os.environ:
        return []
    try:
        listed = subprocess.run(["ssh-add", "-L"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed.stdout.splitlines() if listed.returncode == 0 else []


def start(words: Sequence[str], way: Way, **how: int | None) -> "subprocess.Popen[bytes]":
    """ssh, with a ProxyCommand that reports to `way`; `how` as Popen has it.

    Raises:
        NotFoundError: there is no ssh.
    """
    try:
        return subprocess.Popen(
            list(words),
            env=os.environ | {REPORT: str(way.report)},
            stdin=how.get("stdin"),
            stdout=how.get("stdout"),
        )
    except FileNotFoundError as error:
        raise NotFoundError("there is no `ssh` here: install OpenSSH's client") from error


def run(words: Sequence[str], way: Way) -> int:
    """ssh with this terminal; its exit code. What one types, Ctrl-C too, is ssh's.

    Raises:
        ClientError: the device did not let us in.
    """

    # A function, and not SIG_IGN: that would be inherited.
    def leave_it_to_ssh(number: int, frame: FrameType | None) -> None:
        return

    before = signal.signal(signal.SIGINT, leave_it_to_ssh)
    try:
        with start(words, way) as child:
            code = child.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    return ended(code, way)


def ended(code: int, way: Way) -> int:
    """ssh's code, as one of a shell; whatever kept us out is raised.

    Raises:
        ClientError: the device did not let us in.
    """
    if code == SSH_FAILED and not way.let_in:
        if way.report.exists():
            # The ProxyCommand has said its sentence.
            sys.exit(int(way.report.read_text()))
        raise _kept_out(way)
    return 128 - code if code < 0 else code


def _kept_out(way: Way) -> ClientError:
    name = way.login.device.name
    if way.login.only_those:
        key = way.login.identities[0]
        return NotAuthorisedError(
            f"{name} does not let {key} in: is it in your account? `gantry key add {key}.pub` "
            "adds it"
        )
    if not way.ours:
        return NotAuthorisedError(
            f"{name} does not let you in: none of your SSH keys is in your account; "
            "`gantry key add` adds one"
        )
    return ClientError(
        f"{name} does not let you in, though your key is in your account: ssh says why above, and "
        "the device asks its fleet at each login, so `gantry devices` must show it online"
    )

#!/usr/bin/python3
"""Keys and profiles of the device's own OpenVPN server: `gantry-vpn-server client NAME` and others.

A small certificate authority in /mnt/state/vpn-server, made with openssl. A client's key is in its
profile and nowhere else.
"""

import argparse
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

STATE = Path(os.environ.get("GANTRY_VPN_SERVER", "/mnt/state/vpn-server"))
SETTINGS = Path(os.environ.get("GANTRY_VPN_SERVER_SETTINGS", "/etc/openvpn/server/gantry.conf"))
UNIT = "openvpn-server@gantry.service"
DAYS = "7300"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
HOST = re.compile(r"[A-Za-z0-9:]([A-Za-z0-9.:_-]{0,251}[A-Za-z0-9])?")
PROFILE = """\
client
dev tun
proto {protocol}
remote {host} {port}
nobind
persist-key
persist-tun
remote-cert-tls server
tls-version-min 1.2
verb 3
<ca>
{ca}</ca>
<cert>
{certificate}</cert>
<key>
{key}</key>
<tls-crypt>
{tls_crypt}</tls-crypt>
"""


class VpnServerError(Exception):
    """Says what is wrong and what to do."""


@dataclass(frozen=True)
class Client:
    """Who has a profile. `serial` is that of the certificate; times are UTC."""

    name: str
    serial: int
    made: str
    revoked: bool = False


def run(*command: str) -> None:
    """Run a program.

    Raises:
        VpnServerError: it failed; with the last line that it said.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise VpnServerError(
            f"{command[0]} is not installed: apt-get install {command[0]}"
        ) from error
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise VpnServerError(f"{command[0]} failed: {said[-1] if said else done.returncode}")


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Put a file in place, whole or not at all."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def certificate(folder: Path, authority: Path, name: str, usage: str) -> int:
    """Make `key` and `crt` in a folder, signed by the authority; returns the serial number."""
    serial = secrets.randbits(63)
    (folder / "extensions").write_text(
        "basicConstraints=critical,CA:FALSE\n"
        f"keyUsage=critical,digitalSignature\nextendedKeyUsage={usage}\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    run(
        *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-noenc", "-subj", f"/CN={name}"),
        *("-keyout", str(folder / "key"), "-out", str(folder / "csr")),
    )
    run(
        *("openssl", "x509", "-req", "-in", str(folder / "csr"), "-days", DAYS),
        *("-CA", str(authority / "ca.crt"), "-CAkey", str(authority / "ca.key")),
        *("-set_serial", str(serial), "-extfile", str(folder / "extensions")),
        *("-out", str(folder / "crt")),
    )
    return serial


def check_clock() -> None:
    """A certificate that is made before the clock is set would be valid at the wrong time.

    Raises:
        VpnServerError: the clock is behind this very file.
    """
    if time.time() < Path(__file__).stat().st_mtime - 86400:
        now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
        raise VpnServerError(f"it is {now} UTC here: wait until the clock is set, then try again")


def let_through() -> None:
    """Let OpenVPN, as nobody, come to the serial numbers of the revoked: where it cannot look, it
    takes nobody for revoked. Not to list what else is there."""
    for folder in (STATE.parent, STATE):
        mode = folder.stat().st_mode & 0o7777
        if mode & 0o011 != 0o011:
            folder.chmod(mode | 0o011)


def init() -> None:
    """Make the authority and the server's keys, all or nothing."""
    if (STATE / "ca.crt").exists():
        let_through()
        print(f"{STATE} has the server's keys already")
        return
    check_clock()
    STATE.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    for left in STATE.parent.glob(".vpn-server.*"):  # by a power loss
        shutil.rmtree(left)
    name = socket.gethostname()
    with tempfile.TemporaryDirectory(dir=STATE.parent, prefix=".vpn-server.") as made:
        folder = Path(made) / "vpn-server"
        folder.mkdir()
        run(
            *("openssl", "req", "-x509", "-newkey", "ec", "-noenc", "-days", DAYS),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN=VPN of {name}"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt")),
        )
        parts = Path(made) / "server"
        parts.mkdir()
        certificate(parts, folder, name, "serverAuth")
        shutil.copy(parts / "key", folder / "server.key")
        shutil.copy(parts / "crt", folder / "server.crt")
        run("openvpn", "--genkey", "tls-crypt", str(folder / "tls-crypt.key"))
        for each in folder.iterdir():
            each.chmod(0o600)
        # OpenVPN, as nobody, looks there for serial numbers; it may not list this folder.
        (folder / "revoked").mkdir()
        (folder / "revoked").chmod(0o755)
        folder.chmod(0o711)
        os.sync()
        try:
            folder.rename(STATE)
        except OSError as error:
            raise VpnServerError(f"{STATE} cannot be made: {error.strerror}") from error
    let_through()
    print(f"made the keys of the VPN server in {STATE}")


def clients() -> list[Client]:
    """Who ever had a profile, in the order of making."""
    path = STATE / "clients.json"
    if not path.exists():
        return []
    return [Client(**each) for each in json.loads(path.read_text())]


def keep(known: Sequence[Client]) -> None:
    write(STATE / "clients.json", json.dumps([asdict(each) for each in known], indent=2) + "\n")


def setting(name: str) -> str:
    """A setting of the server's configuration.

    Raises:
        VpnServerError: it is not there.
    """
    found = re.search(rf"^{name} (\S+)", SETTINGS.read_text(), re.MULTILINE)
    if not found:
        raise VpnServerError(f"{SETTINGS} has no {name}: run the role vpn_server again")
    return found[1]


def client(name: str, host: str, output: Path | None) -> None:
    """Make a client's key and give out its profile.

    Raises:
        VpnServerError: the name is taken or no name.
    """
    if not NAME.fullmatch(name):
        raise VpnServerError(f"{name!r} is no name: use up to 40 letters, digits, dots and dashes")
    if not HOST.fullmatch(host):
        raise VpnServerError(f"{host!r} is no host name and no address")
    known = clients()
    if any(each.name == name and not each.revoked for each in known):
        raise VpnServerError(f"{name} has a profile already: revoke it first, or take another name")
    check_clock()
    with tempfile.TemporaryDirectory(dir=STATE, prefix=".client.") as made:
        folder = Path(made)
        serial = certificate(folder, STATE, name, "clientAuth")
        text = PROFILE.format(
            protocol=setting("proto").partition("-")[0],
            host=host,
            port=setting("port"),
            ca=(STATE / "ca.crt").read_text(),
            certificate=(folder / "crt").read_text(),
            key=(folder / "key").read_text(),
            tls_crypt=(STATE / "tls-crypt.key").read_text(),
        )
    made_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    # Known before it is given out: no profile that cannot be revoked.
    keep([*known, Client(name, serial, made_at)])
    if output is None:
        sys.stdout.write(text)
    else:
        try:
            write(output, text)
        except OSError:
            keep(known)
            raise
        print(f"{output}: the profile of {name}, with its key: keep it as a secret")


def revoke(name: str) -> None:
    """Take a profile back, and cut its connection.

    Raises:
        VpnServerError: nobody of that name has one.
    """
    known = clients()
    found = [each for each in known if each.name == name and not each.revoked]
    if not found:
        there = ", ".join(each.name for each in known if not each.revoked) or "nobody"
        raise VpnServerError(f"{name} has no profile: {there} has")
    for each in found:
        write(STATE / "revoked" / str(each.serial), "", 0o644)
    keep([Client(**(asdict(each) | {"revoked": each.revoked or each in found})) for each in known])
    # Who is connected stays so until the keys are renewed; others come back by themselves.
    subprocess.run(["systemctl", "try-restart", UNIT], check=False, capture_output=True)
    print(f"{name} can connect no more")


def show() -> None:
    """One line for each profile."""
    for each in clients():
        print(f"{each.name}  {each.made}  {'revoked' if each.revoked else 'valid'}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gantry-vpn-server", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="make the server's keys, if they are not there")
    one = commands.add_parser("client", help="make a profile for somebody")
    one.add_argument("name")
    one.add_argument("--remote", metavar="HOST", default=f"{socket.gethostname()}.local")
    one.add_argument("--output", metavar="FILE", type=Path, help="mode 0600; else stdout")
    commands.add_parser("list", help="who has a profile")
    commands.add_parser("revoke", help="take a profile back").add_argument("name")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says."""
    os.umask(0o077)
    options = parse(arguments)
    try:
        if options.command == "init":
            init()
            return 0
        if not (STATE / "ca.crt").exists():
            raise VpnServerError(f"the VPN server was never started: systemctl enable --now {UNIT}")
        with (STATE / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if options.command == "client":
                client(options.name, options.remote, options.output)
            elif options.command == "revoke":
                revoke(options.name)
            else:
                show()
    except VpnServerError as error:
        print(f"gantry-vpn-server: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"gantry-vpn-server: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

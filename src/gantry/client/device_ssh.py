"""What `gantry ssh` and `gantry cp` give to the system's ssh, and to the device's shell. Pure.

A service's container is found on the device, by the labels that the supervisor gives it.
"""

import base64
import binascii
import hashlib
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gantry.client.records import Device
from gantry.supervisor.labels import Label

SSH_PORT = 22222
USER = "root"
# Codes of our scripts on the device. The command's own may be the same: a sentence tells.
NOT_HERE, NO_ENGINE = 3, 5

# $1 is a service; the container is in $c afterwards, and the arguments are those behind it.
_FIND = f"""\
e=$(command -v docker || command -v balena-engine) || {{
  echo 'gantry: this device has no container engine' >&2; exit {NO_ENGINE}; }}
c=$("$e" ps -q --no-trunc -f label={Label.SUPERVISED} -f "label={Label.SERVICE_NAME}=$1") \
|| exit {NO_ENGINE}
c=$(printf '%s\\n' "$c" | head -n 1)
if [ -z "$c" ]; then
  r=$("$e" ps -f label={Label.SUPERVISED} --format '{{{{.Label "{Label.SERVICE_NAME}"}}}}')
  r=$(printf '%s\\n' "$r" | sort -u | tr '\\n' ' ')
  r=${{r% }}
  echo "gantry: service $1 does not run here; ${{r:+these run: }}${{r:-none runs}}" >&2
  exit {NOT_HERE}
fi
shift
"""
_SHELL = "if command -v bash >/dev/null 2>&1; then exec bash; fi; exec sh"


@dataclass(frozen=True, slots=True)
class Login:
    """How to get into one device. `home`: the fleet's folder of settings; `marker`: a file that
    appears once the device has let us in; `identities`: keys to offer before all others;
    `only_those`: and no others."""

    fleet: str
    device: Device
    home: Path
    marker: Path | None = None
    identities: tuple[Path, ...] = ()
    only_those: bool = False


def ssh_words(login: Login, *, tty: bool) -> list[str]:
    """The system's ssh, up to and with the host; a command for the device's shell may follow.

    The user's own settings count, but for what would open this machine to the device, or lead
    elsewhere.
    """
    settings = {
        "ProxyCommand": proxy_command(login.fleet, login.device),
        "HostKeyAlias": login.device.uuid,
        "UserKnownHostsFile": ssh_quoted(login.home / "device_hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        # The tunnel ends at this device and no other: it has shown its key to the VPN.
        "StrictHostKeyChecking": "accept-new",
        "HashKnownHosts": "no",
        "ControlMaster": "no",
        "ControlPath": "none",
        "RemoteCommand": "none",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ClearAllForwardings": "yes",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "LogLevel": "ERROR",
    }
    if login.marker is not None:
        touch = f": > {shlex.quote(str(login.marker))}"
        settings |= {"PermitLocalCommand": "yes", "LocalCommand": touch.replace("%", "%%")}
    words = ["ssh", "-t" if tty else "-T", "-p", str(SSH_PORT), "-l", USER]
    for each in login.identities:
        words += ["-i", str(each)]
    if login.only_those:
        words += ["-o", "IdentitiesOnly=yes"]
    for name, value in settings.items():
        words += ["-o", f"{name}={value}"]
    return [*words, f"{login.device.uuid}.gantry"]


def ssh_quoted(path: Path) -> str:
    """A path as ssh's settings take it: spaces end a value, `%` begins a token."""
    return '"' + str(path).replace("%", "%%") + '"'


def proxy_command(fleet: str, device: Device) -> str:
    """This very Gantry, by absolute path. `-P`: nothing of the current folder is imported."""
    words = [sys.executable, "-P", "-m", "gantry.client.tunnel_stdio"]
    words += [fleet, device.uuid, str(SSH_PORT), device.name]
    return shlex.join(words).replace("%", "%%")


def host_command(words: Sequence[str]) -> str | None:
    """What the device's shell is to run; None: nothing, a shell is wanted.

    Several words arrive as they are; one alone is a line for the shell, as ssh has it.
    """
    if not words:
        return None
    return words[0] if len(words) == 1 else shlex.join(words)


def service_command(service: str, words: Sequence[str], *, tty: bool) -> str:
    """The same in the container of a service; without words, a shell of it."""
    flags = '-it -e "TERM=${TERM:-xterm}"' if tty else "-i"
    if not words:
        words = ["sh", "-c", _SHELL]
    elif len(words) == 1 and shlex.quote(words[0]) != words[0]:
        words = ["sh", "-c", words[0]]
    return service_script(service, f'exec "$e" exec {flags} "$c" "$@"', words)


def service_script(service: str, script: str, arguments: Sequence[str] = ()) -> str:
    """A script on the device, with the engine's program in `$e`, the service's container in `$c`,
    and the arguments."""
    return shlex.join(["sh", "-c", _FIND + script, "gantry", service, *arguments])


def host_script(script: str, arguments: Sequence[str] = ()) -> str:
    """A script on the device, with these arguments."""
    return shlex.join(["sh", "-c", script, "gantry", *arguments])


def fingerprint(line: str) -> str | None:
    """`SHA256:…` of a public key as OpenSSH writes it (`ssh-ed25519 AAAA… comment`); None: it is
    no key."""
    words = line.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error):
        return None
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"


def known_keys(lines: Mapping[str, str], account: Iterable[str]) -> list[str]:
    """Which of these public keys the account has, by their fingerprints; `lines` by where they
    are."""
    known = set(account)
    return [where for where, line in lines.items() if fingerprint(line) in known]

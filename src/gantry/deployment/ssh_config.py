"""`git push` without options: the fleet's port, host key and the user's key for OpenSSH.

The host key comes from the stack's outputs and is kept in a known_hosts of our own: the first
connection is verified as the later ones are, and `~/.ssh/known_hosts` stays the user's.
"""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from gantry.deployment import marked_block
from gantry.deployment.paths import config_home


@dataclass(frozen=True, slots=True)
class Identity:
    """A user's key pair. `generated`: Gantry made it, because there was none."""

    private: Path
    generated: bool

    @property
    def public(self) -> Path:
        return self.private.with_name(f"{self.private.name}.pub")


class IdentityError(Exception):
    """No key pair could be had."""


def ssh_home() -> Path:
    """`~/.ssh`, made with mode 0700."""
    home = Path.home() / ".ssh"
    home.mkdir(mode=0o700, exist_ok=True)
    return home


def known_hosts_path() -> Path:
    """The known_hosts of all fleets."""
    return config_home() / "known_hosts"


def ensure_identity(home: Path | None = None) -> Identity:
    """The user's key: the first of OpenSSH's default names, else a new ed25519 key.

    Raises:
        IdentityError: ssh-keygen failed.
    """
    home = home or ssh_home()
    for name in ("id_ed25519", "id_ecdsa", "id_rsa"):
        private = home / name
        if private.exists() and private.with_name(f"{name}.pub").exists():
            return Identity(private, generated=(home / f".{name}.gantry").exists())
    private = home / "id_ed25519"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "gantry", "-f", str(private)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, input="n\n")
    except (OSError, subprocess.CalledProcessError) as error:
        output = getattr(error, "stderr", "") or error
        raise IdentityError(f"no ssh key in {home}, and none could be made: {output}") from error
    (home / ".id_ed25519.gantry").touch()
    return Identity(private, generated=True)


def block_lines(host: str, port: int, known_hosts: Path, identity: Identity | None) -> list[str]:
    """The `Host` block. `Match all` ends it, so that it swallows none of the user's lines."""
    lines = [
        f"Host {host}",
        f"    Port {port}",
        f'    UserKnownHostsFile "{known_hosts}"',
        "    StrictHostKeyChecking yes",
    ]
    if identity and identity.generated:
        lines.append(f'    IdentityFile "{identity.private}"')
    return [*lines, "Match all"]


def known_hosts_text(text: str, host: str, port: int, public_key: str | None) -> str:
    """`text` with one line for `[host]:port`, or none; other lines stay."""
    name = host if port == 22 else f"[{host}]:{port}"
    lines = [each for each in text.splitlines() if each.split(" ", 1)[0] != name]
    if public_key:
        lines.append(f"{name} {' '.join(public_key.split()[:2])}")
    return "".join(f"{each}\n" for each in lines)


def add(
    fleet: str,
    host: str,
    port: int,
    host_key: str,
    *,
    identity: Identity | None = None,
    home: Path | None = None,
) -> bool:
    """Let `ssh <host>` reach the fleet's git server; True if a file changed.

    `host_key`: the server's public key, `ssh-ed25519 AAAA… [comment]`.
    """
    known_hosts = known_hosts_path()
    changed = _update_known_hosts(known_hosts, host, port, host_key)
    # First in the file: OpenSSH takes the first value that it meets.
    lines = block_lines(host, port, known_hosts, identity)
    path = (home or ssh_home()) / "config"
    return marked_block.update(path, fleet, lines, first=True, mode=0o600) or changed


def remove(fleet: str, host: str, port: int, *, home: Path | None = None) -> bool:
    """Take the fleet out of both files; True if one changed. Keys stay."""
    changed = _update_known_hosts(known_hosts_path(), host, port, None)
    path = (home or ssh_home()) / "config"
    return marked_block.update(path, fleet, [], mode=0o600) or changed


def _update_known_hosts(path: Path, host: str, port: int, key: str | None) -> bool:
    old = path.read_text() if path.exists() else ""
    new = known_hosts_text(old, host, port, key)
    if new != old:
        marked_block.write_atomically(path, new, 0o600)
    return new != old

"""An SSH server as a device has one: root comes in by key, on a port of its own."""

import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import docker

from gantry.deployment.images import build_image
from gantry.local.device_roads import SshRoad
from gantry.local.errors import DeviceUnreachableError, LocalError
from tests.integration.supervisor.conftest import wait_until
from tests.ports import free_port


class SshServer:
    """It lets one key in as root, in a container of the git server's image that sees `mounts`.

    `home` holds its keys and settings; programs there go before the container's own. `options` are
    those of an ssh that comes in.
    """

    def __init__(self, home: Path, client: docker.DockerClient, mounts: Iterable[str]) -> None:
        for name in ("host", "user"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)]
            subprocess.run(words, check=True)
        self.port = free_port()
        settings = {
            "Port": self.port,
            "ListenAddress": "127.0.0.1",
            "HostKey": home / "host",
            "AuthorizedKeysFile": home / "user.pub",
            "PermitRootLogin": "prohibit-password",
            "StrictModes": "no",
            "SetEnv": f"PATH={home}:/usr/bin:/bin",
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        (home / "sshd_config").write_text(text)
        # The image is the git server's, in which nobody has a shell.
        accounts = (
            "root:x:0:0::/root:/bin/sh",
            "sshd:x:101:65534::/run/sshd:/usr/sbin/nologin",
        )
        start = f"printf '%s\\n' {' '.join(accounts)} >/etc/passwd; mkdir -p /run/sshd; "
        start += f"exec /usr/sbin/sshd -D -e -f {home}/sshd_config"
        self._container = client.containers.run(
            build_image("git", lambda *_: None).tag,
            ["-c", start],
            entrypoint=["sh"],
            user="0",
            network_mode="host",
            volumes=[*mounts],
            healthcheck={"test": ["NONE"]},
            detach=True,
        )
        known = home / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {(home / 'host.pub').read_text()}")
        self.options = ("-F", "none", "-i", str(home / "user"), "-o", f"UserKnownHostsFile={known}")
        wait_until("the SSH server", self._answers)

    def _answers(self) -> bool:
        with suppress(LocalError, DeviceUnreachableError):
            return SshRoad("127.0.0.1", self.port, self.options).run("echo here") == "here\n"
        return False

    def close(self) -> None:
        """End it, and print what it said."""
        print(self._container.logs().decode())
        self._container.remove(force=True)

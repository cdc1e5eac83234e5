"""An engine beside the machine's own: what a device has."""

import os
import secrets
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import docker

from tests.integration.supervisor.conftest import wait_until
from tests.ports import free_port


class Bridge:
    """A bridge of this machine's for another engine."""

    def __init__(self) -> None:
        self.name = f"gantry{secrets.token_hex(3)}"
        _ip("link", "add", self.name, "type", "bridge")
        _ip("addr", "add", f"10.203.{secrets.randbelow(254) + 1}.1/24", "dev", self.name)
        _ip("link", "set", self.name, "up")

    def close(self) -> None:
        _ip("link", "delete", self.name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


class SecondEngine:
    """An engine of the device's own, on a port as a development device has it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._bridge = Bridge()
        self.bridge = self._bridge.name
        self.socket = str(home / "docker.sock")
        self.port = free_port()
        self.start()
        self.client = docker.DockerClient(base_url=f"unix://{self.socket}")

    def start(self) -> None:
        """Start it, as for the first time or after it was killed."""
        home = self._home
        words = ["dockerd", "--host", f"unix://{self.socket}"]
        words += ["--host", f"tcp://127.0.0.1:{self.port}", "--bridge", self.bridge]
        words += ["--iptables=false", "--log-level=error", "--pidfile", str(home / "pid")]
        words += ["--data-root", str(home / "data"), "--exec-root", str(home / "exec")]
        (home / "pid").unlink(missing_ok=True)
        self.process = subprocess.Popen(words)
        wait_until("the second engine", self._answers)

    def kill(self) -> None:
        """Take its power away, and its containerd's."""
        self.process.kill()
        self.process.wait(60)
        process = self._home / "exec" / "containerd" / "containerd.pid"
        with suppress(OSError, ValueError):
            os.kill(int(process.read_text()), signal.SIGKILL)
        process.unlink(missing_ok=True)

    def _answers(self) -> bool:
        assert self.process.poll() is None, "the second engine has ended"
        words = ["docker", "--host", f"unix://{self.socket}", "version"]
        return subprocess.run(words, capture_output=True).returncode == 0

    def close(self) -> None:
        for container in self.client.containers.list(all=True, ignore_removed=True):
            container.remove(force=True)
        self.client.close()
        self.process.terminate()
        self.process.wait(60)
        self._bridge.close()
        # It leaves mounts of network name spaces behind.
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for each in reversed([each for each in mounts if each.startswith(f"{self._home}/")]):
            subprocess.run(["umount", each], check=True)

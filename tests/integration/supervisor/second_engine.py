"""An engine beside the machine's own: what a device has."""

import secrets
import subprocess
from pathlib import Path

import docker

from tests.integration.supervisor.conftest import free_port, wait_until


class SecondEngine:
    """An engine of the device's own, on a port as a development device has it."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.bridge = f"gantry{secrets.token_hex(3)}"
        self._ip("link", "add", self.bridge, "type", "bridge")
        address = f"10.203.{secrets.randbelow(254) + 1}.1/24"
        self._ip("addr", "add", address, "dev", self.bridge)
        self._ip("link", "set", self.bridge, "up")
        self.socket = str(home / "docker.sock")
        self.port = free_port()
        words = ["dockerd", "--host", f"unix://{self.socket}"]
        words += ["--host", f"tcp://127.0.0.1:{self.port}", "--bridge", self.bridge]
        words += ["--iptables=false", "--log-level=error", "--pidfile", str(home / "pid")]
        words += ["--data-root", str(home / "data"), "--exec-root", str(home / "exec")]
        self.process = subprocess.Popen(words)
        wait_until("the second engine", self._answers)
        self.client = docker.DockerClient(base_url=f"unix://{self.socket}")

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

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
        self._ip("link", "delete", self.bridge)
        # It leaves mounts of network name spaces behind.
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for each in reversed([each for each in mounts if each.startswith(f"{self._home}/")]):
            subprocess.run(["umount", each], check=True)

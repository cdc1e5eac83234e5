"""A host's door without systemd: a listener that starts the real program for each connection, as
gantry-host.socket does, and programs of the host that note what they were asked."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[1]
# They stand for systemd, which no test may have restart the machine.
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "{calls}"
if [ "$1" = is-active ]; then
    cat "{home}/state-of-$2" 2> /dev/null || {{ echo inactive; exit 3; }}
fi
"""


class HostDoor:
    """A host with folders of its own; `path` is its socket, `calls` what systemctl was told."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.path = home / "door" / "door.sock"
        self.leds = home / "leds"
        self._calls = home / "calls"
        self._programs = home / "bin"
        for folder in (self.path.parent, self._programs, home / "run", self.leds):
            folder.mkdir(parents=True, exist_ok=True)
        self.program("systemctl", SYSTEMCTL.format(calls=self._calls, home=home))
        self.program("systemd-run", f'#!/bin/sh\necho "$@" >> "{home}/runs"\n')
        (home / "hostname").write_text("quiet-robot\n")
        (home / "device.json").write_text('{"variant": "production"}')
        self.boot = home / "host-boot"
        self.boot.mkdir()
        self.engine = "/run/docker.sock"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        self._children: list[subprocess.Popen[bytes]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def program(self, name: str, text: str) -> None:
        """A program of the host's."""
        path = self._programs / name
        path.write_text(text)
        path.chmod(0o755)

    def led(self, name: str = "ACT", trigger: str = "none mmc0 [actpwr]") -> Path:
        """Give the board an LED; its folder."""
        folder = self.leds / name
        folder.mkdir()
        for file, text in (("trigger", trigger), ("brightness", "0"), ("max_brightness", "255")):
            (folder / file).write_text(f"{text}\n")
        return folder

    def state(self, unit: str, state: str) -> None:
        """What systemctl says of a unit."""
        (self.home / f"state-of-{unit}").write_text(f"{state}\n")

    @property
    def calls(self) -> list[str]:
        """What systemctl was told to do."""
        lines = self._calls.read_text().splitlines() if self._calls.exists() else []
        return [each for each in lines if not each.startswith("is-active")]

    @property
    def runs(self) -> list[str]:
        """What systemd-run was told to run."""
        noted = self.home / "runs"
        return noted.read_text().splitlines() if noted.exists() else []

    def ended(self, image: str, state: str, message: str) -> None:
        """How an update of the supervisor ended, as the host's program leaves it."""
        document = {"image": image, "state": state, "message": message}
        (self.home / "run/supervisor-update.json").write_text(json.dumps(document))

    @property
    def busy(self) -> int:
        """Requests that are being carried out."""
        return sum(each.poll() is None for each in self._children)

    def _serve(self) -> None:
        environment = os.environ | {
            "PYTHONPATH": str(ROOT / "roles/supervisor/files"),
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "GANTRY_RUN": str(self.home / "run"),
            "GANTRY_LEDS": str(self.leds),
            "GANTRY_HOSTNAME": str(self.home / "hostname"),
            "GANTRY_DEVICE": str(self.home / "device.json"),
            "GANTRY_BOOT": str(self.boot),
            "GANTRY_SUPERVISOR_SETTINGS": str(self.home / "supervisor.json"),
        }
        command = [sys.executable, "-s", "-m", "gantry_supervisor", "door"]
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                environment["GANTRY_ENGINE_SOCKET"] = self.engine
                self._children.append(
                    subprocess.Popen(command, env=environment, stdin=connection.fileno())
                )

    def close(self) -> None:
        """Shut the door."""
        # Closing alone does not wake who waits for a connection.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._listener.close()
        self.path.unlink()
        for each in self._children:
            each.kill()
            each.wait(10)

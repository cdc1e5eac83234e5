"""Two ways into a device: its engine on TCP, as development variants have it, or SSH.

Each runs shell scripts where /mnt/boot and /mnt/data of the device are to be seen, and starts the
supervisor anew.
"""

import secrets
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import docker
import requests
from docker.errors import DockerException, NotFound

from gantry.local.device_api import bracketed
from gantry.local.errors import DeviceUnreachableError, LocalError

SSH_PORT = 22222
# Names on the device: roles/supervisor.
_CONTAINER, _UNIT = "gantry_supervisor", "gantry-supervisor"
_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Places:
    """The device's partitions."""

    boot: str = "/mnt/boot"
    data: str = "/mnt/data"


class Road(Protocol):
    """A way into a device."""

    def run(self, script: str, content: bytes = b"") -> str:
        """Run a shell script with `content` on its standard input; what it prints.

        Raises:
            LocalError: it failed, or the device cannot be reached.
        """

    def restart(self) -> None:
        """End the supervisor; the device's unit starts it anew."""

    def close(self) -> None:
        """Leave nothing on the device."""


class SshRoad:
    """By SSH, as root. `options` are ssh's, beside those of the user's own settings."""

    def __init__(self, host: str, port: int = SSH_PORT, options: Sequence[str] = ()) -> None:
        self._host = host
        timeout = ["-o", "ConnectTimeout=10"]
        self._words = ["ssh", "-p", str(port), *timeout, *options, f"root@{host}"]

    def run(self, script: str, content: bytes = b"") -> str:
        return _run([*self._words, script], content, f"ssh to {self._host}")

    def restart(self) -> None:
        self.run(f"systemctl restart {_UNIT}")

    def close(self) -> None:
        """There is nothing."""


class EngineRoad:
    """By the engine: a container of the supervisor's own image sees the partitions.

    The supervisor's container is ended, not restarted: its unit makes another one then.
    """

    def __init__(self, host: str, port: int, places: Places) -> None:
        self._address = f"tcp://{bracketed(host)}:{port}"
        self._helper = f"gantry_sync_{secrets.token_hex(4)}"
        try:
            self._client = docker.DockerClient(base_url=self._address, timeout=60)
            image = self._client.containers.get(_CONTAINER).attrs["Image"]
            self._client.containers.run(
                image,
                ["-c", "trap 'exit 0' TERM; sleep 3600 & wait"],
                entrypoint=["sh"],
                name=self._helper,
                volumes=[f"{each}:{each}" for each in (places.boot, places.data)],
                network_mode="host",
                healthcheck={"test": ["NONE"]},
                remove=True,
                detach=True,
            )
        except NotFound as error:
            raise LocalError(f"no supervisor runs on {host}: there is no {_CONTAINER}") from error
        except (DockerException, requests.RequestException) as error:
            raise DeviceUnreachableError(
                f"no engine answers at {self._address} ({error}): development variants have it; "
                "use --ssh for others"
            ) from error

    def run(self, script: str, content: bytes = b"") -> str:
        words = ["docker", "--host", self._address, "exec", "-i", self._helper, "sh", "-c", script]
        return _run(words, content, f"the engine at {self._address}")

    def restart(self) -> None:
        try:
            self._client.containers.get(_CONTAINER).stop()
        except NotFound:
            return  # its unit makes one
        except (DockerException, requests.RequestException) as error:
            raise LocalError(f"the supervisor cannot be ended: {error}") from error

    def close(self) -> None:
        with suppress(DockerException, requests.RequestException):
            self._client.containers.get(self._helper).remove(force=True)
        self._client.close()


def _run(words: list[str], content: bytes, what: str) -> str:
    try:
        done = subprocess.run(
            words, input=content, capture_output=True, check=False, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceUnreachableError(f"{what}: {error}") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"it ended with {done.returncode}"
        raise LocalError(f"{what}: {said}")
    return done.stdout.decode(errors="replace")

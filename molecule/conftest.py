"""What the tests of all scenarios share: hosts by name, what listens there, a reboot."""

import os
import re
import secrets
import selectors
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import testinfra
from testinfra.backend.base import CommandResult
from testinfra.backend.docker import DockerBackend
from testinfra.host import Host

REBOOT_SECONDS = 120
BLOCK = 1 << 16


class Shell:
    """`/bin/sh` in a container, for all that tests run there; it starts again when it has ended."""

    def __init__(self, container: str) -> None:
        self._container = container
        self._end = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, command: str) -> tuple[int, bytes, bytes]:
        """A command's exit status, output and errors; as `docker exec` has them.

        Each has a subshell, so that none finds what another has set, and no input.
        """
        end = f"\\n{self._end}"
        line = (
            f"(eval {shlex.quote(command)}) < /dev/null; "
            f"printf '{end} %d\\n' $?; printf '{end}\\n' >&2\n"
        )
        process = self._started()
        assert process.stdin
        try:
            process.stdin.write(line.encode())
            process.stdin.flush()
        except BrokenPipeError:
            return self._ended(b"", b"")
        stdout, stderr = self._answer(process)
        found = re.search(rb"\n%s (\d+)\n\Z" % self._end.encode(), stdout)
        if not found:
            return self._ended(stdout, stderr)
        return int(found[1]), stdout[: found.start()], stderr[: -len(self._end) - 2]

    def close(self) -> None:
        """End it; what it runs is ended with its container."""
        if self._process:
            self._process.kill()
            self._ended(b"", b"")

    def _started(self) -> subprocess.Popen[bytes]:
        if not self._process:
            self._process = subprocess.Popen(
                ["docker", "exec", "--interactive", self._container, "/bin/sh"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        return self._process

    def _ended(self, stdout: bytes, stderr: bytes) -> tuple[int, bytes, bytes]:
        process, self._process = self._process, None
        assert process
        rest, errors = process.communicate()
        return process.returncode, stdout + rest, stderr + errors

    def _answer(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        """What comes until both streams have said that it is the end, or have ended."""
        assert process.stdout
        assert process.stderr
        last = re.compile(rb"\n%s( \d+)?\n\Z" % self._end.encode())
        heard = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
        with selectors.DefaultSelector() as selector:
            for stream in heard:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select():
                    data = os.read(key.fd, BLOCK)
                    heard[key.fd] += data
                    if not data or last.search(heard[key.fd][-100:]):
                        selector.unregister(key.fd)
        return heard[process.stdout.fileno()], heard[process.stderr.fileno()]


# By the container's name: `docker exec` costs more than most of what tests run.
SHELLS: dict[str, Shell] = {}


def run(self: DockerBackend, command: str, *args: str, **_: Any) -> CommandResult:
    """In place of testinfra's own, which calls `docker exec` for each command."""
    text = self.get_command(command, *args)
    shell = SHELLS.setdefault(self.name, Shell(self.name))
    status, stdout, stderr = shell.run(text)
    return self.result(status, self.encode(text), stdout, stderr)


DockerBackend.run = run


@pytest.fixture(scope="session", autouse=True)
def _shells() -> Iterator[None]:
    yield
    for shell in SHELLS.values():
        shell.close()


@pytest.fixture
def on() -> Callable[[str], Host]:
    """A host of the scenario's inventory by its name there: `on("journal-persistent")`."""
    return lambda name: testinfra.get_host(f"ansible://{name}")


@pytest.fixture
def reboot() -> Callable[[Host], None]:
    """Restart a host and wait until it has booted: what was on a tmpfs is gone then."""

    def restart(host: Host) -> None:
        container = host.ansible.get_variables()["ansible_host"]
        if container in SHELLS:
            SHELLS[container].close()
        subprocess.run(["docker", "restart", container], check=True, capture_output=True)
        end = time.monotonic() + REBOOT_SECONDS
        while time.monotonic() < end:
            state = host.run("systemctl is-system-running --wait").stdout.strip()
            if state in ("running", "degraded"):
                return
            time.sleep(1)
        pytest.fail(f"{container} has not booted after {REBOOT_SECONDS} s")

    return restart


@pytest.fixture
def listening() -> Callable[[Host], set[tuple[str, str]]]:
    """All sockets of a host that listen: protocol, and address with port; `*` is all of IPv6."""

    def sockets(host: Host) -> set[tuple[str, str]]:
        rows = map(str.split, host.check_output("ss -Hlntu").splitlines())
        return {(row[0], row[4].replace("[::]", "*")) for row in rows}

    return sockets

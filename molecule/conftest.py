"""What the tests of all scenarios share: hosts by name, what listens there, a reboot."""

import subprocess
import time
from collections.abc import Callable

import pytest
import testinfra
from testinfra.host import Host

REBOOT_SECONDS = 120


@pytest.fixture
def on() -> Callable[[str], Host]:
    """A host of the scenario's inventory by its name there: `on("journal-persistent")`."""
    return lambda name: testinfra.get_host(f"ansible://{name}")


@pytest.fixture
def reboot() -> Callable[[Host], None]:
    """Restart a host and wait until it has booted: what was on a tmpfs is gone then."""

    def restart(host: Host) -> None:
        container = host.ansible.get_variables()["ansible_host"]
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

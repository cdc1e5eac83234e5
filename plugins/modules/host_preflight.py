#!/usr/bin/python
"""Ansible module, run on a host that is to be a device: all that is in the way, found at once."""

import http.client
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: host_preflight
short_description: What keeps a host from being provisioned
description:
  - Changes nothing. Board and operating system are the role device_config's to judge.
options:
  data:
    description: The folder where images will be; the nearest that exists is asked for room.
    type: path
    default: /mnt/data
  free_mib:
    description: The room that must be free there.
    type: int
    default: 1024
  memory_mib:
    description: The memory that the host must have.
    type: int
    default: 350
  endpoints:
    description: HTTPS URLs that must answer, whatever they answer.
    type: list
    elements: str
    default: []
  address:
    description: Where the hosts of O(endpoints) are, if names do not tell.
    type: str
    default: ''
  ca:
    description: A PEM certificate to trust besides the system's.
    type: str
    default: ''
"""

RETURN = """
problems:
  description: Sentences, each with what to do. Empty where nothing is in the way.
  type: list
  returned: always
"""

OPTIONS: dict[str, dict[str, Any]] = {
    "data": {"type": "path", "default": "/mnt/data"},
    "free_mib": {"type": "int", "default": 1024},
    "memory_mib": {"type": "int", "default": 350},
    "endpoints": {"type": "list", "elements": "str", "default": []},
    "address": {"type": "str", "default": ""},
    "ca": {"type": "str", "default": ""},
}
TIMEOUT_SECONDS = 15
# An engine that has just started, on a board with a slow card.
ENGINE_SECONDS = 90
# Whoever updates this host already would undo what we do, and we what it does.
OTHER_AGENTS = {
    "balena-supervisor.service": "balena",
    "resin-supervisor.service": "resin",
    "mender-client.service": "Mender",
    "mender-updated.service": "Mender",
    "mender-authd.service": "Mender",
    "flightctl-agent.service": "Flight Control",
    "swupdate.service": "SWUpdate",
    "rauc-hawkbit-updater.service": "RAUC with hawkBit",
}
OTHER_CONTAINERS = {"balena_supervisor": "balena", "resin_supervisor": "resin"}
# Engines that Debian's docker.io cannot be installed beside.
OTHER_ENGINES = ("docker-ce", "moby-engine", "podman-docker")
UNIT_FOLDERS = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")


def room_problem(data: Path, wanted_mib: int) -> str:
    """Whether the data folder's file system has room."""
    folder = data
    while not folder.is_dir():
        folder = folder.parent
    free = shutil.disk_usage(folder).free // 2**20
    # A device that is provisioned again holds its images there already.
    if free >= wanted_mib or (data / "docker").is_dir():
        return ""
    return f"{folder} has {free} MiB free: make it {wanted_mib}, for the images of applications"


def memory_problem(wanted_mib: int) -> str:
    """Whether the host has the memory for an engine, a supervisor and an application."""
    [line] = [each for each in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in each]
    total = int(line.split()[1]) // 1024
    return "" if total >= wanted_mib else f"it has {total} MiB of memory: {wanted_mib} are needed"


def agent_problems() -> list[str]:
    """Other platforms' supervisors, and engines that are in the way of ours."""
    found = {
        product
        for unit, product in OTHER_AGENTS.items()
        if any((Path(folder) / unit).exists() for folder in UNIT_FOLDERS)
    }
    problems = []
    try:
        found |= {OTHER_CONTAINERS[name] for name in containers() if name in OTHER_CONTAINERS}
    except subprocess.TimeoutExpired:
        problems.append(
            f"its Docker does not answer within {ENGINE_SECONDS} s: see `systemctl status docker`"
        )
    problems += [
        f"the agent of {product} is installed: remove it, one platform must rule a device"
        for product in sorted(found)
    ]
    return problems + [
        f"the package {name} is installed: remove it, a device runs Debian's docker.io"
        for name in OTHER_ENGINES
        if installed(name)
    ]


def containers() -> list[str]:
    """Names of all containers, where there is an engine."""
    if not shutil.which("docker"):
        return []
    listed = subprocess.run(
        ["docker", "ps", "--all", "--format", "{{.Names}}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=ENGINE_SECONDS,
    )
    return listed.stdout.split()


def installed(package: str) -> bool:
    """Whether a Debian package is installed."""
    found = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${db:Status-Status}", package],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout == "installed"


class Pinned(http.client.HTTPSConnection):
    """HTTPS to an address under a name that the system need not know."""

    def __init__(self, host: str, port: int, address: str, context: ssl.SSLContext) -> None:
        super().__init__(host, port, timeout=TIMEOUT_SECONDS, context=context)
        self._address, self._tls = address or host, context

    def connect(self) -> None:
        """As the base class does, but where `address` says."""
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


def endpoint_problem(url: str, address: str, ca: str) -> str:
    """Why a server cannot be talked to from here; '' if it answers anything."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 443
    context = ssl.create_default_context()
    if ca:
        context.load_verify_locations(cadata=ca)
    connection = Pinned(host, port, address, context)
    where = f"{host}:{port}" + (f" at {address}" if address else "")
    try:
        connection.request("GET", parts.path or "/")
        connection.getresponse().read()
    except socket.gaierror:
        return (
            f"the name {host} is not known here: give the address of the fleet's server with "
            "-e fleet_address=<address>, or put the name into your DNS"
        )
    except ssl.SSLCertVerificationError as error:
        if error.verify_message in ("certificate is not yet valid", "certificate has expired"):
            now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
            return f"{where}: {error.verify_message}; it is {now} UTC here: is the clock right?"
        return f"{where}: its certificate is not the fleet's ({error.verify_message})"
    except (OSError, http.client.HTTPException) as error:
        return (
            f"{where} does not answer ({error or type(error).__name__}): is it published to this "
            "network (docs/runbooks/networks.md), and nothing in between?"
        )
    finally:
        connection.close()
    return ""


def main() -> None:
    """Ansible's entry point."""
    module = AnsibleModule(OPTIONS, supports_check_mode=True)
    options = module.params
    problems = [
        room_problem(Path(options["data"]), options["free_mib"]),
        memory_problem(options["memory_mib"]),
        *agent_problems(),
        *(endpoint_problem(url, options["address"], options["ca"]) for url in options["endpoints"]),
    ]
    module.exit_json(changed=False, problems=[each for each in problems if each])


if __name__ == "__main__":
    main()

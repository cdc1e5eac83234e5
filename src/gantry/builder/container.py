"""The builder's container is made ready for an engine of its own: mounts, qemu, network fence.

The capabilities that this needs (SYS_ADMIN, NET_ADMIN, MKNOD, SYS_PTRACE beside Docker's default
ones) are trust equal to the host's; docs/building.md says so.
"""

import ipaddress
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gantry.contracts.device_types import Architecture

BINFMT = Path("/proc/sys/fs/binfmt_misc")
# Where builds live. The range is for benchmarks of networks (RFC 2544): no fleet's network has it.
BRIDGE_ADDRESS = "198.18.0.1"
BRIDGE_NETWORK = f"{BRIDGE_ADDRESS}/16"
BRIDGE = "docker0"
# Of this container, as Docker has it in every network of its own making.
NAME_SERVER = "127.0.0.11"
# Link-local: where clouds tell a machine its credentials (RFC 3927).
METADATA = "169.254.0.0/16"
# A supplementary group of the engine's process alone. Files are not made with it.
ENGINE_GROUP = 10999
_MACHINES = {
    "x86_64": Architecture.AMD64,
    "aarch64": Architecture.AARCH64,
    "armv7l": Architecture.ARMV7HF,
    "armv6l": Architecture.RPI,
}
_QEMU = {
    Architecture.AARCH64: "qemu-aarch64",
    Architecture.ARMV7HF: "qemu-arm",
    Architecture.RPI: "qemu-arm",
    Architecture.AMD64: "qemu-x86_64",
}


class ContainerError(Exception):
    """The container lacks a capability or a mount; the message says which."""


@dataclass(frozen=True, slots=True)
class Emulation:
    """Whether programs of an architecture run here, and if not, why."""

    architecture: Architecture
    problem: str | None


def native_architecture() -> Architecture:
    """The architecture of the machine that the builder runs on.

    Raises:
        ContainerError: one that Gantry does not know.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise ContainerError(f"a builder cannot run on {machine}: use {', '.join(_MACHINES)}")
    return _MACHINES[machine]


def emulation(arch: Architecture, native: Architecture, binfmt: Path = BINFMT) -> Emulation:
    """Ask the kernel whether it runs programs of `arch`.

    Flag F matters: the kernel holds the interpreter open, so that it is found from inside images
    (https://docs.kernel.org/admin-guide/binfmt-misc.html).
    """
    if arch is native:
        return Emulation(arch, None)
    name = _QEMU[arch]
    advice = "on the builder's host run `apt-get install qemu-user-static binfmt-support`"
    try:
        lines = (binfmt / name).read_text().splitlines()
    except OSError:
        return Emulation(arch, f"the kernel has no {name} in binfmt_misc: {advice}")
    flags = next((each.partition(":")[2] for each in lines if each.startswith("flags:")), "")
    if lines[:1] != ["enabled"]:
        return Emulation(arch, f"{name} is switched off: run `update-binfmts --enable {name}`")
    if "F" not in flags:
        return Emulation(arch, f"{name} is registered without the flag F: {advice}")
    return Emulation(arch, None)


def prepare_mounts() -> None:
    """/proc/sys writable for the engine's networks, and binfmt_misc visible.

    Raises:
        ContainerError: the capability SYS_ADMIN is missing, or a security profile forbids it.
    """
    _run(["mount", "-o", "remount,rw", "/proc/sys"])
    if not (BINFMT / "status").exists():
        _run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)])


def raise_fence(https_port: int) -> None:
    """Builds reach the internet, but neither the fleet's inner network nor this container.

    The exceptions are the name server at the bridge's address for steps, and for the engine, which
    itself fetches what `ADD` and `FROM` name, the port at which the registry and its tokens are.

    Raises:
        ContainerError: NET_ADMIN is missing.
    """
    # Inserted, last one first: DOCKER-USER ends in a RETURN of the engine's own.
    for rule in reversed(fence_rules(_own_networks(), https_port)):
        if subprocess.run(["iptables", "-w", "-C", *rule], capture_output=True).returncode:
            _run(["iptables", "-w", "-I", *rule])


def fence_rules(networks: Iterable[str], https_port: int) -> list[list[str]]:
    """The rules in order, as iptables takes them behind `-A`; `networks` are this container's."""
    networks = list(networks)
    reject = ["-j", "REJECT"]
    rules = [["DOCKER-USER", "-i", BRIDGE, "-d", each, *reject] for each in [*networks, METADATA]]
    incoming = ["INPUT", "-i", BRIDGE]
    established = ["-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED"]
    rules.append([*incoming, *established, "-j", "ACCEPT"])
    for protocol in ("udp", "tcp"):
        rules.append([*incoming, "-p", protocol, "--dport", "53", "-j", "ACCEPT"])
    rules.append([*incoming, *reject])
    # The engine's own connections are known by a group that no other process is in.
    engine = ["OUTPUT", "-m", "owner", "--gid-owner", str(ENGINE_GROUP), "--suppl-groups"]
    rules.append([*engine, "-d", f"{NAME_SERVER}/32", "-j", "ACCEPT"])
    for each in networks:
        port = ["-p", "tcp", "--dport", str(https_port)]
        rules.append([*engine, "-d", each, *port, "-j", "ACCEPT"])
    for each in [*networks, "127.0.0.0/8", BRIDGE_NETWORK, METADATA]:
        rules.append([*engine, "-d", each, *reject])
    return rules


def _own_networks() -> list[str]:
    output = _run(["ip", "-4", "-o", "addr", "show"])
    found = []
    for line in output.splitlines():
        _, interface, _, address, *_ = line.split()
        if interface not in {"lo", BRIDGE}:
            found.append(str(ipaddress.ip_interface(address).network))
    return found


def write_trust(registry: str, ca_certificate_pem: str, folder: Path) -> Path:
    """Make the engine trust the fleet's CA for its registry and its api's token endpoint.

    Returns the bundle for the engine's SSL_CERT_FILE: the system's certificates and the fleet's.
    """
    certificates = Path("/etc/docker/certs.d") / registry
    certificates.mkdir(parents=True, exist_ok=True)
    (certificates / "ca.crt").write_text(ca_certificate_pem)
    system = Path("/etc/ssl/certs/ca-certificates.crt")
    bundle = folder / "ca-bundle.crt"
    own = system.read_text() if system.is_file() else ""
    bundle.write_text(f"{own.rstrip()}\n{ca_certificate_pem}")
    return bundle


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise ContainerError(
            f"`{' '.join(command)}` failed: {result.stderr.strip()}. The builder's container needs "
            "the capabilities SYS_ADMIN, NET_ADMIN, SYS_PTRACE and MKNOD, and no seccomp or "
            "AppArmor profile"
        )
    return result.stdout

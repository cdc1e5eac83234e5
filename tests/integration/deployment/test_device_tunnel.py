"""A virtual device's tunnel to an OpenVPN server: login, what is reached by it, on and off.

The server is Debian's OpenVPN with a file of devices; the fleet's own is in tests of its own.
"""

import base64
import io
import json
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from gantry.deployment import provisioning, virtual_device
from gantry.deployment.certificates import issue, make_authority
from gantry.deployment.images import build_image
from gantry.deployment.paths import repository_root
from gantry.deployment.progress import line_printer
from gantry.deployment.virtual_device import DeviceSpec

SAY = line_printer()
pytestmark = pytest.mark.timeout(600)
UUID, KEY = uuid.uuid4().hex, uuid.uuid4().hex
SERVER, DEVICE, OTHER = "100.64.0.1", "100.64.3.7", "100.64.3.8"
SERVER_CONF = f"""
port 1194
proto tcp-server
dev tun0
mode server
tls-server
topology subnet
push "topology subnet"
ifconfig {SERVER} 255.192.0.0
ca ca.crt
cert server.crt
key server.key
dh none
verify-client-cert none
username-as-common-name
script-security 2
auth-user-pass-verify /srv/check via-file
client-config-dir /srv/addresses
keepalive 10 45
reneg-sec 40
verb 3
"""
CHECK = '#!/bin/sh\nexec grep -qxF "$(paste -sd: "$1")" /srv/devices\n'
# Ports of `address` that take a connection from `source`, and the first words of what answers.
PROBE = """
import json, socket, sys
address, source, ports = json.loads(sys.argv[1])
found = {}
for port in ports:
    try:
        with socket.create_connection((address, port), 5, (source, 0)) as plug:
            plug.sendall(b"GET /ping HTTP/1.0\\r\\n\\r\\n")
            found[port] = plug.recv(64).decode(errors="replace").splitlines()[:1]
    except ConnectionRefusedError:
        found[port] = "refused"
    except OSError as error:
        found[port] = str(error)
print(json.dumps(found))
"""
DOOR = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as plug:
    plug.connect("/run/gantry/host/door.sock")
    plug.sendall(sys.argv[1].encode() + b"\\n")
    print(plug.makefile().readline())
"""
ASK_SUPERVISOR = """
import glob, json, sqlite3, urllib.request
[path] = glob.glob("/mnt/data/**/database.sqlite", recursive=True)
query = "SELECT value FROM fact WHERE name = 'supervisor_keys'"
key = json.loads(sqlite3.connect(path).execute(query).fetchone()[0])["everything"]
url = f"http://127.0.0.1:48484/v2/device/vpn?apikey={key}"
print(urllib.request.urlopen(url, timeout=10).read().decode())
"""


@dataclass(frozen=True, slots=True)
class Rig:
    """A device and its server, both containers of one network."""

    device: Container
    server: Container

    def run(self, *command: str, on: Container | None = None) -> str:
        """What the command prints on the device, or elsewhere; it must succeed."""
        done = (on or self.device).exec_run(list(command))
        assert isinstance(done.output, bytes)
        assert done.exit_code == 0, done.output
        return done.output.decode().strip()

    def connected(self) -> bool:
        """Whether the tunnel carries packets."""
        ping = ["ping", "-c", "1", "-W", "1", "-I", "resin-vpn", SERVER]
        return self.device.exec_run(ping).exit_code == 0

    def probe(self, source: str, *ports: int) -> dict[str, Any]:
        """What the device's ports answer to an address of the tunnel."""
        asked = json.dumps([DEVICE, source, ports])
        found = self.run("python3", "-c", PROBE, asked, on=self.server)
        return dict(json.loads(found))

    def ask_door(self, on: bool) -> None:
        """Switch the tunnel as the supervisor does."""
        asked = json.dumps({"do": "service", "name": "vpn", "on": on})
        assert self.run("python3", "-c", DOOR, asked) == '{"ok": {}}'

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    client = docker.from_env(timeout=600)
    fleet = f"test-{uuid.uuid4().hex[:8]}"
    image = build_image("virtual-device", SAY, client=client).tag
    network = client.networks.create(virtual_device.network_name(fleet))
    endpoint = f"vpn.{fleet}.gantry.internal"
    authority = make_authority("a fleet")
    config = {
        "applicationId": "1",
        "apiEndpoint": f"https://api.{fleet}.gantry.internal:18443",
        "deviceType": "raspberrypi3-64",
        "balenaRootCA": base64.b64encode(authority.certificate_pem.encode()).decode(),
        "uuid": UUID,
        "deviceApiKey": KEY,
        "deviceId": 7,
        "registered_at": 1,
        "vpnEndpoint": endpoint,
        "vpnPort": "1194",
    }
    pair = issue(authority, endpoint, dns_names=[endpoint])
    server = client.containers.create(
        image,
        ["--cd", "/srv", "--config", "server.conf"],
        entrypoint="openvpn",
        network=network.name,
        cap_add=["NET_ADMIN"],
        devices=["/dev/net/tun"],
    )
    try:
        network.disconnect(server)
        network.connect(server, aliases=[endpoint])
        files = {
            "server.conf": SERVER_CONF,
            "ca.crt": authority.certificate_pem,
            "server.crt": pair.certificate_pem,
            "server.key": pair.key_pem,
            "devices": f"{UUID}:{KEY}\n",
            "check": CHECK,
            f"addresses/{UUID}": f"ifconfig-push {DEVICE} 255.192.0.0\n",
        }
        server.put_archive("/srv", packed(files))
        server.start()
        supervisor = provisioning.choose_supervisor(config, None, repository_root(), client, SAY)
        spec = DeviceSpec(f"{fleet}-pi", fleet, config, supervisor)
        virtual_device.run(spec, image, client, SAY)
        yield Rig(virtual_device.get(spec.name, client), server)
    finally:
        for each in virtual_device.devices(client, fleet):
            virtual_device.stop(each.name, client, SAY, keep=False)
        server.remove(force=True)
        network.remove()
        client.close()


def packed(files: dict[str, str]) -> bytes:
    """A tar of root's files, all of which may be run."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content.encode()), 0o700
            archive.addfile(member, io.BytesIO(content.encode()))
    return buffer.getvalue()


def wait(condition: Callable[[], object], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.3)


def test_it_logs_in_with_its_uuid_and_key_and_has_its_address(rig: Rig) -> None:
    wait(rig.connected, "the tunnel")
    shown = json.loads(rig.run("ip", "-4", "-json", "address", "show", "dev", "resin-vpn"))
    assert [(each["local"], each["prefixlen"]) for each in shown[0]["addr_info"]] == [(DEVICE, 10)]
    said = rig.server.logs().decode()
    assert f"{UUID}/" in said
    assert KEY not in said + rig.journal("gantry-vpn")
    assert rig.run("systemctl", "is-system-running") == "running"


def test_it_proves_its_key_again_without_a_break(rig: Rig) -> None:
    """The server asks for it now and then; the key is not kept in memory meanwhile."""
    wait(rig.connected, "the tunnel")
    pid = rig.run("systemctl", "show", "gantry-vpn", "--property=MainPID", "--value")
    said = f"{UUID}/"
    begun = proofs(rig, said)
    wait(lambda: proofs(rig, said) > begun, "another proof")
    assert rig.connected()
    assert rig.run("systemctl", "show", "gantry-vpn", "--property=MainPID", "--value") == pid
    assert "restarting" not in rig.journal("gantry-vpn")


def proofs(rig: Rig, name: str) -> int:
    """How often the server has taken the key of a device that was connected already."""
    lines = rig.server.logs().decode().splitlines()
    return sum(name in line and "authentication succeeded" in line for line in lines)


def test_the_units_sandbox_is_a_boards(rig: Rig) -> None:
    wait(rig.connected, "the tunnel")
    properties = "CapabilityBoundingSet,DevicePolicy,DeviceAllow,NoNewPrivileges,ProtectSystem"
    shown = rig.run("systemctl", "show", "gantry-vpn", f"--property={properties}").splitlines()
    assert set(shown) == {
        "CapabilityBoundingSet=cap_net_admin",
        "DevicePolicy=closed",
        "DeviceAllow=/dev/net/tun rw",
        "DeviceAllow=char-rtc r",  # of ProtectClock=
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
    }
    pid = rig.run("systemctl", "show", "gantry-vpn", "--property=MainPID", "--value")
    status = rig.run("cat", f"/proc/{pid}/status")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert int(fields["CapEff"], 16) == 1 << 12  # CAP_NET_ADMIN


def test_the_cloud_reaches_ssh_and_the_supervisor_and_others_nothing(rig: Rig) -> None:
    wait(rig.connected, "the tunnel")
    wait(lambda: rig.probe(SERVER, 48484)["48484"] == ["HTTP/1.1 200 "], "the supervisor")
    found = rig.probe(SERVER, 22222, 48484, 80)
    assert found["22222"] == ["SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10"]
    assert found["80"] == "refused"  # nobody is there
    rig.run("ip", "address", "replace", f"{OTHER}/10", "dev", "tun0", on=rig.server)
    assert rig.probe(OTHER, 22222, 48484) == {"22222": "refused", "48484": "refused"}


def test_the_supervisor_tells_of_it_and_its_door_switches_it(rig: Rig) -> None:
    wait(rig.connected, "the tunnel")

    def told() -> dict[str, bool]:
        return dict(json.loads(rig.run("python3", "-c", ASK_SUPERVISOR))["vpn"])

    assert told() == {"enabled": True, "connected": True}
    rig.ask_door(on=False)
    wait(lambda: told() == {"enabled": False, "connected": False}, "the end of the tunnel")
    # Nor do new settings start it.
    config = json.loads(rig.run("cat", "/mnt/boot/config.json"))
    change(rig, config | {"vpnPort": "1195"})
    wait(lambda: "once SUPERVISOR_VPN_CONTROL" in rig.journal("gantry-config"), "the settings")
    change(rig, config)
    assert told() == {"enabled": False, "connected": False}
    rig.ask_door(on=True)
    wait(lambda: told() == {"enabled": True, "connected": True}, "the tunnel")


def change(rig: Rig, config: dict[str, Any]) -> None:
    """Somebody saves config.json."""
    script = 'umask 077; printf %s "$1" > /mnt/boot/new && mv /mnt/boot/new /mnt/boot/config.json'
    rig.run("sh", "-c", script, "sh", json.dumps(config))


def test_a_server_that_was_killed_is_found_again(rig: Rig) -> None:
    wait(rig.connected, "the tunnel")
    rig.server.kill("SIGKILL")
    wait(lambda: not rig.connected(), "the end of the tunnel")
    rig.server.start()
    # 30 s at most by lot, and the time that a login takes.
    wait(rig.connected, "the tunnel", seconds=60)

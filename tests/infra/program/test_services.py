"""What each container may do, is given and shows: exact sets, so that nothing slips in."""

import json
from typing import Any

import pytest

from .conftest import Registered, Run

SERVICES = {
    "postgres",
    "api",
    "git",
    "builder",
    "registry",
    "collector",
    "deltas",
    "nats",
    "logs",
    "vpn-1",
    "balancer",
    "proxy",
}
ORDINARY = sorted(SERVICES - {"builder", "vpn-1"})
USERS = {
    "postgres": "10002:10002",
    "api": "10001:10001",
    "git": "10001:10001",
    "builder": "0:0",
    "registry": "10003:10003",
    "collector": "10003:10003",
    "deltas": "10001:10001",
    "nats": "10004:10004",
    "logs": "10001:10001",
    "vpn-1": "0:0",
    "balancer": "10006:10006",
    "proxy": "10005:10005",
}
# What Docker gives every container that asks for nothing
# (https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities).
# What no container asks for.
FORBIDDEN = {"privileged", "pidMode", "ipcMode", "networkMode", "usernsMode", "groupAdds", "gpus"}
DOCKERS_OWN = {
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
}
PUBLIC = {
    f"{name}.testbots.gantry.internal"
    for name in ("api", "registry", "builder", "delta", "logs", "dashboard")
}

VPN = {f"{name}.testbots.gantry.internal" for name in ("vpn", "tunnel")}


def container(fleet: Registered, service: str) -> dict[str, Any]:
    return fleet.of("Container")[service]


def attachments(fleet: Registered, service: str) -> dict[str, set[str]]:
    return {
        each["name"]: set(each.get("aliases", []))
        for each in container(fleet, service)["networksAdvanced"]
    }


def test_services_are_these(fleet: Registered) -> None:
    assert set(fleet.of("Container")) == SERVICES
    names = {each["name"] for each in fleet.of("Container").values()}
    assert names == {f"gantry-testbots-{service}" for service in SERVICES}


@pytest.mark.parametrize("service", ORDINARY)
def test_ordinary_services_have_no_power(fleet: Registered, service: str) -> None:
    inputs = container(fleet, service)
    assert inputs["capabilities"] == {"adds": [], "drops": ["ALL"]}
    assert inputs["securityOpts"] == ["no-new-privileges:true"]
    assert not (FORBIDDEN | {"devices", "sysctls", "cgroupnsMode"}) & set(inputs)
    assert all("hostPath" not in each for each in inputs.get("volumes", []))


def test_the_builders_powers(fleet: Registered) -> None:
    inputs = container(fleet, "builder")
    assert inputs["capabilities"]["drops"] == ["ALL"]
    assert {each.removeprefix("CAP_") for each in inputs["capabilities"]["adds"]} == (
        DOCKERS_OWN | {"NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"}
    )
    assert set(inputs["securityOpts"]) == {"seccomp=unconfined", "apparmor=unconfined"}
    assert inputs["cgroupnsMode"] == "host"
    assert not (FORBIDDEN | {"devices", "sysctls"}) & set(inputs)
    binds = [each for each in inputs["volumes"] if "hostPath" in each]
    assert binds == [{"hostPath": "/sys/fs/cgroup", "containerPath": "/sys/fs/cgroup"}]


@pytest.mark.parametrize("servers", [1, 2])
def test_the_vpns_powers(run: Run, servers: int) -> None:
    fleet = run(vpn=json.dumps({"servers": servers}))
    for number in range(1, servers + 1):
        inputs = container(fleet, f"vpn-{number}")
        assert inputs["capabilities"] == {"adds": ["CAP_NET_ADMIN"], "drops": ["ALL"]}
        assert inputs["securityOpts"] == ["no-new-privileges:true"]
        assert inputs["devices"] == [
            {"hostPath": "/dev/net/tun", "containerPath": "/dev/net/tun", "permissions": "rw"}
        ]
        assert inputs["sysctls"] == {"net.ipv4.ip_forward": "0"}
        assert inputs["volumes"] == []
        assert not (FORBIDDEN | {"cgroupnsMode"}) & set(inputs)


def test_users(fleet: Registered) -> None:
    assert {name: each["user"] for name, each in fleet.of("Container").items()} == USERS


def test_published_ports(fleet: Registered) -> None:
    published = {
        name: [(each["internal"], each["external"], each["ip"]) for each in inputs["ports"]]
        for name, inputs in fleet.of("Container").items()
        if inputs.get("ports")
    }
    assert published == {
        "git": [(2222, 2222, "127.0.0.1")],
        "balancer": [(1194, 1194, "127.0.0.1")],
        "proxy": [(8443, 8443, "127.0.0.1")],
    }


def test_a_shared_port_is_the_balancers(run: Run) -> None:
    fleet = run(vpn='{"sharePort": true}')
    published = {
        name: [(each["internal"], each["external"]) for each in inputs["ports"]]
        for name, inputs in fleet.of("Container").items()
        if inputs.get("ports")
    }
    assert published == {"git": [(2222, 2222)], "balancer": [(8443, 8443)]}
    # Inside, names lead where they led: what goes past the balancer needs no balancer.
    assert attachments(fleet, "proxy")["gantry-testbots-edge"] == PUBLIC
    assert attachments(fleet, "balancer")["gantry-testbots-edge"] == VPN


def test_volumes(fleet: Registered) -> None:
    mounted = {
        name: {each["containerPath"]: each.get("volumeName") for each in inputs.get("volumes", [])}
        for name, inputs in fleet.of("Container").items()
    }
    assert mounted == {
        "postgres": {"/var/lib/postgresql/data": "gantry-testbots-postgres-data"},
        "api": {},
        "git": {"/data": "gantry-testbots-git-data"},
        "builder": {
            "/var/lib/docker": "gantry-testbots-builder-data",
            "/sys/fs/cgroup": None,
        },
        "registry": {"/var/lib/registry": "gantry-testbots-registry-data"},
        "collector": {"/var/lib/registry": "gantry-testbots-registry-data"},
        "deltas": {"/var/lib/gantry/deltas": "gantry-testbots-deltas-data"},
        "nats": {"/var/lib/nats": "gantry-testbots-nats-data"},
        "logs": {},
        "vpn-1": {},
        "balancer": {},
        "proxy": {},
    }


def test_networks(fleet: Registered) -> None:
    inside, edge, egress = (f"gantry-testbots-{each}" for each in ("internal", "edge", "egress"))
    assert {each["name"]: each["internal"] for each in fleet.of("Network").values()} == {
        inside: True,
        edge: False,
        egress: False,
    }
    for service in sorted(SERVICES - {"git", "proxy", "balancer", "builder"}):
        assert attachments(fleet, service) == {inside: {service}}
    assert attachments(fleet, "builder") == {inside: {"builder"}, egress: set()}
    host = "testbots.gantry.internal"
    assert attachments(fleet, "git") == {inside: {"git"}, edge: {host}}
    assert attachments(fleet, "proxy") == {inside: {"proxy", host} | PUBLIC, edge: PUBLIC}
    assert attachments(fleet, "balancer") == {inside: {"balancer"} | VPN, edge: VPN}


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_limits_and_habits(fleet: Registered, service: str) -> None:
    inputs = container(fleet, service)
    assert inputs["memory"] >= 256
    # No swap beyond it: a service that grows is ended, not the machine made slow.
    assert inputs["memorySwap"] == inputs["memory"]
    assert inputs["restart"] == "unless-stopped"
    assert (inputs["logDriver"], inputs["logOpts"]) == (
        "json-file",
        {"max-size": "10m", "max-file": "3"},
    )
    assert inputs["wait"]
    assert inputs["healthcheck"]["tests"][0] == "CMD"
    labels = {each["label"]: each["value"] for each in inputs["labels"]}
    assert labels == {"gantry.fleet": "testbots", "gantry.service": service}


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_configuration_comes_by_uploads_only(fleet: Registered, service: str) -> None:
    inputs = container(fleet, service)
    assert "envs" not in inputs
    assert {each["permissions"] for each in inputs["uploads"]} == {"0444"}
    # With an owner, the provider asks the engine for a chown to the image's user, whose name the
    # engine looks up on the host and does not find.
    assert not any({"owner", "group"} & set(each) for each in inputs["uploads"])


def test_no_secret_outside_the_uploads(fleet: Registered) -> None:
    for inputs in fleet.of("Container").values():
        shown = json.dumps({key: value for key, value in inputs.items() if key != "uploads"})
        assert "a-secret-of-32-bytes" not in shown
        assert "PRIVATE KEY" not in shown


def test_settings_reach_the_containers(run: Run) -> None:
    fleet = run(
        "otherbots",
        bindAddress="192.0.2.1",
        httpsPort="443",
        gitPort="22",
        host="fleet.example.org",
        memory='{"api": 700, "deltas": 300}',
        deltas='{"workers": 2, "memory": 200}',
    )
    assert container(fleet, "proxy")["ports"] == [
        {"internal": 443, "external": 443, "ip": "192.0.2.1", "protocol": "tcp"}
    ]
    assert container(fleet, "git")["ports"][0]["external"] == 22
    assert container(fleet, "api")["memory"] == 700
    assert container(fleet, "deltas")["memory"] == 300 + 2 * 200
    assert "https://api.fleet.example.org:443 {" in fleet.files("proxy")["/etc/gantry/Caddyfile"]


def test_images_are_those_of_the_checkout(fleet: Registered) -> None:
    images = fleet.of("Image")
    assert set(images) == SERVICES - {"vpn-1"} | {"vpn"}
    for service, inputs in images.items():
        one = "vpn-1" if service == "vpn" else service
        assert container(fleet, one)["image"] == inputs["tag"]
        assert inputs["tag"].startswith(f"gantry/{service}:")


def test_each_vpn_server_knows_the_others(run: Run) -> None:
    fleet = run(vpn='{"servers": 3, "kilobytesPerSecond": 250}')
    names = {"vpn-1", "vpn-2", "vpn-3"}
    assert set(fleet.of("Container")) == SERVICES | names
    assert set(fleet.of("Image")) == SERVICES - {"vpn-1"} | {"vpn"}
    for name in names:
        document = json.loads(fleet.files(name)["/etc/gantry/vpn.json"])
        assert document["server"] == name
        assert document["peers"] == {each: f"http://{each}:3128" for each in names - {name}}
        assert document["rate_bytes_per_second"] == 250_000

"""Compositions as bodies for the engine; variables, features, hashes."""

import dataclasses
from typing import Any

import pytest

from gantry.supervisor import compose
from gantry.supervisor.compose import CompositionError
from gantry.supervisor.container import container
from gantry.supervisor.environment import DeviceFacts, ServiceFacts
from gantry.supervisor.state import ContainerState, Health, read_container, read_image
from gantry.supervisor.target import TargetService
from gantry.supervisor.wire import WireError

DEVICE = DeviceFacts(
    uuid="d" * 32,
    name_at_init="quiet-robot",
    device_type="raspberrypi3-64",
    architecture="aarch64",
    os_version="Debian 12",
    api_url="https://api.example",
    device_key="device key",
    supervisor_keys={42: "local key"},
    supervisor_port=48484,
    bridge_address="172.17.0.1",
    docker_socket="/var/run/docker.sock",
    runtime_directory="/tmp/balena-supervisor",
    instance="device",
)
FACTS = ServiceFacts(42, "app uuid", "bots", "abc1", "main")


def body_of(
    composition: dict[str, Any],
    labels: dict[str, str] | None = None,
    environment: dict[str, str] | None = None,
    facts: ServiceFacts = FACTS,
    device: DeviceFacts = DEVICE,
    legacy: bool = False,
) -> tuple[dict[str, Any], str]:
    service = TargetService(
        "main", 1, 2, "r/v2/x@sha256:1", environment or {}, labels or {}, True, composition
    )
    wanted = container(service, facts, device, legacy)
    return dict(wanted.body), wanted.config_hash()


def variables(body: dict[str, Any]) -> dict[str, str]:
    return dict(each.split("=", 1) for each in body["Env"])


def test_an_application_of_one_dockerfile_gets_the_whole_machine() -> None:
    body, _ = body_of({}, legacy=True)
    host = body["HostConfig"]
    assert (host["Privileged"], host["NetworkMode"], body["Tty"]) == (True, "host", True)
    assert host["RestartPolicy"] == {"Name": "always"}
    assert "42_resin-data:/data" in host["Binds"]
    assert "/lib/modules:/lib/modules" in host["Binds"]
    assert variables(body)["BALENA_SUPERVISOR_ADDRESS"] == "http://127.0.0.1:48484"
    assert variables(body)["RESIN_API_KEY"] == "device key"


def test_fields() -> None:
    body, _ = body_of(
        {
            "command": "run --with 'two words'",
            "entrypoint": ["/entry"],
            "ports": ["80:8080", "127.0.0.1:53:53/udp", {"target": 9, "published": "10"}, "7000"],
            "expose": ["3000"],
            "volumes": ["data:/data:ro", {"type": "volume", "source": "more", "target": "/more"}],
            "networks": {"front": {"aliases": ["www"]}, "back": {"ipv4_address": "10.0.0.2"}},
            "cap_add": ["NET_ADMIN"],
            "cap_drop": ["ALL"],
            "devices": ["/dev/ttyAMA0", "/dev/a:/dev/b:r"],
            "tmpfs": "/run:size=1m",
            "hostname": "robot",
            "user": 1000,
            "working_dir": "/srv",
            "shm_size": "64m",
            "ulimits": {"nofile": {"soft": 1, "hard": 2}, "nproc": 5},
            "healthcheck": {"test": "true", "interval": "1m30s", "retries": 3},
            "extra_hosts": {"a": "1.2.3.4"},
            "dns": "9.9.9.9",
            "init": True,
            "security_opt": ["no-new-privileges"],
            "stop_grace_period": "1m",
            "read_only": True,
            "restart": "on-failure:5",
            "environment": ["A=1", "B=x=y"],
        },
        environment={"A": "user's"},
    )
    host = body["HostConfig"]
    assert body["Cmd"] == ["run", "--with", "two words"]
    assert body["Entrypoint"] == ["/entry"]
    assert host["PortBindings"] == {
        "8080/tcp": [{"HostIp": "", "HostPort": "80"}],
        "53/udp": [{"HostIp": "127.0.0.1", "HostPort": "53"}],
        "9/tcp": [{"HostIp": "", "HostPort": "10"}],
        "7000/tcp": [{"HostIp": "", "HostPort": ""}],
    }
    assert set(body["ExposedPorts"]) == {"8080/tcp", "53/udp", "9/tcp", "7000/tcp", "3000/tcp"}
    assert host["Binds"] == [
        "42_data:/data:ro",
        "42_more:/more",
        "/tmp/balena-supervisor/services/42/main:/tmp/resin",
        "/tmp/balena-supervisor/services/42/main:/tmp/balena",
    ]
    assert body["NetworkingConfig"]["EndpointsConfig"] == {
        "42_back": {"Aliases": ["main"], "IPAMConfig": {"IPv4Address": "10.0.0.2"}}
    }
    assert (host["CapAdd"], host["CapDrop"]) == (["NET_ADMIN"], ["ALL"])
    assert [each["CgroupPermissions"] for each in host["Devices"]] == ["rwm", "r"]
    assert host["Tmpfs"] == {"/run": "size=1m"}
    assert (body["Hostname"], body["User"], body["WorkingDir"]) == ("robot", "1000", "/srv")
    assert host["ShmSize"] == 64 * 1024 * 1024
    assert host["Ulimits"][0] == {"Name": "nofile", "Soft": 1, "Hard": 2}
    assert body["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    assert body["Healthcheck"]["Interval"] == 90_000_000_000
    assert (host["ExtraHosts"], host["Dns"]) == (["a:1.2.3.4"], ["9.9.9.9"])
    assert (host["Init"], host["ReadonlyRootfs"], body["StopTimeout"]) == (True, True, 60)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 5}
    assert (variables(body)["A"], variables(body)["B"]) == ("user's", "x=y")


def test_fields_of_limits_and_rights() -> None:
    body, _ = body_of(
        {
            "cgroup_parent": "robots",
            "mac_address": "02:42:ac:11:00:01",
            "oom_kill_disable": True,
            "userns_mode": "host",
            "cpus": "0.5",
            "memswap_limit": "1g",
            "storage_opt": {"size": "1G"},
            "sysctls": ["net.core.somaxconn=1024"],
            "device_cgroup_rules": ["c 1:3 mr"],
            "devices": [{"source": "/dev/a", "target": "/dev/b", "permissions": "r"}],
            "pid": "host",
            "volumes": [
                {"type": "tmpfs", "target": "/run", "tmpfs": {"size": "1m", "mode": 0o700}}
            ],
            "healthcheck": {"test": ["CMD", "true"], "start_interval": "2s"},
        }
    )
    host = body["HostConfig"]
    assert (host["CgroupParent"], host["UsernsMode"], host["PidMode"]) == ("robots", "host", "host")
    assert body["MacAddress"] == "02:42:ac:11:00:01"
    assert (host["OomKillDisable"], host["NanoCpus"]) == (True, 500_000_000)
    assert (host["MemorySwap"], host["StorageOpt"]) == (1024**3, {"size": "1G"})
    assert host["Sysctls"] == {"net.core.somaxconn": "1024"}
    assert host["DeviceCgroupRules"] == ["c 1:3 mr"]
    [device] = host["Devices"]
    assert (device["PathInContainer"], device["CgroupPermissions"]) == ("/dev/b", "r")
    assert host["Tmpfs"] == {"/run": "size=1048576,mode=700"}
    assert body["Healthcheck"]["StartInterval"] == 2_000_000_000


def test_the_engine_decides_where_lines_are_kept() -> None:
    for composition in ({}, {"image": "x"}, {"logging": {"driver": "json-file"}}):
        assert "LogConfig" not in body_of(composition)[0]["HostConfig"]


def test_the_hash_changes_with_what_matters_and_with_nothing_else() -> None:
    _, same = body_of({})
    assert body_of({}, facts=dataclasses.replace(FACTS, commit="other"))[1] == same
    assert body_of({}, device=dataclasses.replace(DEVICE, os_version="13"))[1] == same
    assert body_of({}, environment={"OT_SMOOTHIE_ID": "AMA"})[1] != same
    assert body_of({"privileged": True})[1] != same
    assert body_of({"networks": ["a", "b"]})[1] != body_of({"networks": ["a", "c"]})[1]


@pytest.mark.parametrize(
    ("label", "bind"),
    [
        ("io.balena.features.dbus", "/run/dbus:/host/run/dbus"),
        ("io.resin.features.firmware", "/lib/firmware:/lib/firmware"),
        ("io.balena.features.journal-logs", "/var/log/journal:/var/log/journal:ro"),
        ("io.balena.features.balena-socket", "/var/run/docker.sock:/host/run/balena-engine.sock"),
    ],
)
def test_features(label: str, bind: str) -> None:
    assert bind in body_of({}, {label: "1"})[0]["HostConfig"]["Binds"]
    assert bind not in body_of({}, {label: "0"})[0]["HostConfig"]["Binds"]


def test_features_that_are_no_path_of_the_host() -> None:
    body, _ = body_of({}, {f"io.balena.features.{each}": "1" for each in ("gpu", "extra-firmware")})
    assert body["HostConfig"]["DeviceRequests"][0]["Capabilities"] == [["gpu"]]
    assert "42_extra-firmware:/extra-firmware" in body["HostConfig"]["Binds"]


def test_the_api_is_reached_over_the_bridge_unless_the_host_s_network_is_used() -> None:
    label = {"io.balena.features.supervisor-api": "true"}
    assert variables(body_of({}, label)[0])["RESIN_SUPERVISOR_HOST"] == "172.17.0.1"
    body, _ = body_of({"network_mode": "host", "ports": ["1:1"]}, label)
    assert variables(body)["RESIN_SUPERVISOR_HOST"] == "127.0.0.1"
    assert "PortBindings" not in body["HostConfig"]
    assert "RESIN_SUPERVISOR_API_KEY" not in variables(body_of({})[0])


@pytest.mark.parametrize(
    ("composition", "part"),
    [
        ({"volumes": ["/etc:/etc"]}, "only named volumes"),
        ({"volumes": ["./x:/x"]}, "only named volumes"),
        ({"network_mode": "container:x"}, "network_mode is 'container:x'"),
        ({"pid": "service:x"}, "pid is 'service:x': use one of host"),
        ({"ipc": "container:x"}, "ipc is 'container:x'"),
        ({"cpus": "many"}, "cpus is 'many'"),
        ({"cpus": "nan"}, "cpus is 'nan'"),
        ({"restart": "sometimes"}, "restart is 'sometimes'"),
        ({"ports": ["a:b"]}, "ports"),
        ({"ports": ["1-3:1-2"]}, "same length"),
        ({"shm_size": "big"}, "shm_size is 'big'"),
        ({"stop_grace_period": "soon"}, "stop_grace_period"),
        ({"command": "it's"}, "command"),
        ({"ulimits": {"nofile": "x"}}, "ulimits"),
    ],
)
def test_what_cannot_be_run_is_named(composition: dict[str, Any], part: str) -> None:
    with pytest.raises((CompositionError, WireError), match=part):
        body_of(composition)


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m30s", 90.0), ("500ms", 0.5), (7, 7.0), ("1h", 3600.0)]
)
def test_durations(text: object, seconds: float) -> None:
    assert compose.seconds(text, "x") == seconds


def test_extra_hosts_of_ipv6() -> None:
    assert compose.extra_hosts(["a=::1", "b:fe80::1"]) == ["a:::1", "b:fe80::1"]


def test_reading_the_engines_lists() -> None:
    found = read_container(
        {
            "Id": "1",
            "Names": ["/my_web_3_4_abc1_0123abcd"],
            "State": "exited",
            "Status": "Exited (137) 2 hours ago",
            "Labels": {"io.balena.app-id": "42", "io.balena.service-name": "my_web"},
        }
    )
    assert (found.commit, found.exit_code, found.state) == ("abc1", 137, ContainerState.EXITED)
    up = {"Id": "1", "Names": ["/x"], "State": "running", "Labels": {}}
    assert read_container({**up, "Status": "Up 3 s (healthy)"}).health is Health.HEALTHY
    assert read_container({**up, "Status": "Up 3 s (health: starting)"}).health is Health.STARTING
    image = read_image({"Id": "1", "RepoDigests": None, "RepoTags": ["<none>:<none>"]}, frozenset())
    assert image.references == ()

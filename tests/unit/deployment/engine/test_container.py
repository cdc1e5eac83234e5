"""Container properties to the body of the Docker API."""

import io
import tarfile
from typing import Any

import pytest

from gantry.deployment.engine.container import Spec, nanoseconds, specify
from gantry.deployment.engine.containers import ContainerProvider
from gantry.deployment.engine.values import EngineError


def _specify(**inputs: Any) -> Spec:
    return specify({**ContainerProvider.defaults, "image": "i", **inputs}, "c")


def test_defaults_are_the_providers() -> None:
    assert _specify().body == {
        "Image": "i",
        "Labels": None,
        "HostConfig": {
            "NetworkMode": "bridge",
            "Init": False,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "", "Config": None},
        },
    }


def test_sizes_are_mebibytes_and_unlimited_stays() -> None:
    host = _specify(memory=2, memorySwap=-1).body["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (2 * 2**20, -1)


def test_ports_of_one_number_are_kept_together() -> None:
    ports = [
        {"internal": 53, "protocol": "udp"},
        {"internal": 80, "external": 8080, "ip": "::1"},
        {"internal": 80, "external": 8081},
    ]
    body = _specify(ports=ports).body
    assert body["ExposedPorts"] == {"53/udp": {}, "80/tcp": {}}
    assert body["HostConfig"]["PortBindings"] == {
        "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "0"}],  # noqa: S104
        "80/tcp": [
            {"HostIp": "::1", "HostPort": "8080"},
            {"HostIp": "0.0.0.0", "HostPort": "8081"},  # noqa: S104
        ],
    }


def test_endpoints_name_what_is_empty() -> None:
    spec = _specify(networksAdvanced=[{"name": "a", "aliases": ["x"]}, {"name": "b"}])
    empty = {"IPAMConfig": {}, "DriverOpts": {}}
    assert spec.networks == (("a", {"Aliases": ["x"], **empty}), ("b", {"Aliases": [], **empty}))


def test_volumes_and_capabilities() -> None:
    body = _specify(
        volumes=[
            {"hostPath": "/h", "containerPath": "/c"},
            {"volumeName": "data", "containerPath": "/d"},
        ],
        capabilities={"adds": ["chown", "CAP_KILL"], "drops": ["ALL"]},
    ).body
    host = body["HostConfig"]
    assert (body["Volumes"], host["Binds"]) == ({"/c": {}, "/d": {}}, ["/h:/c:rw", "data:/d:rw"])
    assert (host["CapAdd"], host["CapDrop"]) == (["CAP_CHOWN", "CAP_KILL"], ["ALL"])


def test_devices_and_sysctls() -> None:
    host = _specify(
        devices=[
            {"hostPath": "/dev/net/tun", "containerPath": "/dev/net/tun", "permissions": "rw"},
            {"hostPath": "/dev/fuse"},
        ],
        sysctls={"net.ipv4.ip_forward": "0"},
    ).body["HostConfig"]
    assert host["Devices"] == [
        {
            "PathOnHost": "/dev/net/tun",
            "PathInContainer": "/dev/net/tun",
            "CgroupPermissions": "rw",
        },
        # The provider's defaults.
        {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rwm"},
    ]
    assert host["Sysctls"] == {"net.ipv4.ip_forward": "0"}


def test_uploads_become_one_archive() -> None:
    uploads = [
        {"file": "/etc/a", "content": "text", "permissions": "0400"},
        {"file": "/etc/b", "content": "more"},
    ]
    with tarfile.open(fileobj=io.BytesIO(_specify(uploads=uploads).files)) as archive:
        a, b = archive.getmembers()
        assert (a.name, a.mode, a.uid, a.gid) == ("etc/a", 0o400, 0, 0)
        assert b.mode == 0o644
        content = archive.extractfile(b)
        assert content
        assert content.read() == b"more"


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"restart": "sometimes"}, "restart is 'sometimes'"),
        ({"healthcheck": {"tests": ["CMD", "x"], "interval": "soon"}}, "'soon' is no duration"),
        ({"healthcheck": {"retries": 1}}, "a block lacks its property 'tests'"),
        ({"uploads": [{"file": "/x"}]}, "upload /x has no content"),
        ({"uploads": [{"file": "/x", "content": "y", "permissions": "7"}]}, "permissions of /x"),
        ({"volumes": [{"containerPath": "/x"}]}, "volume at /x needs hostPath or volumeName"),
        ({"devices": [{"permissions": "r"}]}, "a block lacks its property 'hostPath'"),
        ({"ports": [{"external": 1}]}, "a block lacks its property 'internal'"),
    ],
)
def test_wrong_values_are_named(inputs: dict[str, Any], says: str) -> None:
    with pytest.raises(EngineError, match=f"container c: {says}"):
        _specify(**inputs)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0s", 0), ("1m30s", 90 * 10**9), ("500ms", 5 * 10**8), ("1.5h", 5400 * 10**9), ("0", 0)],
)
def test_go_durations(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected

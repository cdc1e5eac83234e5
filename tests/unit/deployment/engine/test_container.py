"""Container properties to the body of the Docker API."""

import io
import tarfile
from typing import Any

import pytest

from gantry.deployment.engine.container import Spec, nanoseconds, specify
from gantry.deployment.engine.values import EngineError


def _specify(**inputs: Any) -> Spec:
    return specify({**Spec.defaults, "image": "i", **inputs}, "c")


def test_defaults_are_the_providers() -> None:
    assert _specify().body == {
        "Image": "i",
        "HostConfig": {
            "NetworkMode": "bridge",
            "Init": False,
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "LogConfig": {"Type": "", "Config": None},
        },
    }


def test_sizes_are_mebibytes_and_unlimited_stays() -> None:
    host = _specify(memory=2, memorySwap=-1, shmSize=1, cpus="0.5").body["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["ShmSize"]) == (2 * 2**20, -1, 2**20)
    assert host["NanoCpus"] == 500_000_000


def test_ports_of_one_number_are_kept_together() -> None:
    ports = [{"internal": 53, "protocol": "udp"}, {"internal": 80, "external": 8080, "ip": "::1"}]
    body = _specify(ports=ports).body
    assert body["ExposedPorts"] == {"53/udp": {}, "80/tcp": {}}
    assert body["HostConfig"]["PortBindings"] == {
        "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "0"}],  # noqa: S104
        "80/tcp": [{"HostIp": "::1", "HostPort": "8080"}],
    }


def test_mounts_volumes_devices_and_security() -> None:
    host = _specify(
        mounts=[{"type": "tmpfs", "target": "/t", "tmpfsOptions": {"sizeBytes": 5}}],
        volumes=[{"hostPath": "/h", "containerPath": "/c", "readOnly": True}],
        devices=[{"hostPath": "/dev/x"}],
        securityOpts=["systempaths=unconfined", "seccomp=unconfined"],
    ).body["HostConfig"]
    assert host["Mounts"][0]["TmpfsOptions"] == {"SizeBytes": 5, "Mode": 0}
    assert host["Binds"] == ["/h:/c:ro"]
    assert host["Devices"][0]["PathInContainer"] == "/dev/x"
    assert (host["SecurityOpt"], host["MaskedPaths"]) == (["seccomp=unconfined"], [])


def test_uploads_become_one_archive() -> None:
    uploads = [
        {"file": "/etc/a", "content": "text", "permissions": "0400", "owner": "7", "group": "8"},
        {"file": "/etc/b", "contentBase64": "AAE=", "executable": True},
    ]
    with tarfile.open(fileobj=io.BytesIO(_specify(uploads=uploads).files)) as archive:
        a, b = archive.getmembers()
        assert (a.name, a.mode, a.uid, a.gid) == ("etc/a", 0o400, 7, 8)
        assert (b.mode, b.uid) == (0o744, 0)
        content = archive.extractfile(b)
        assert content
        assert content.read() == b"\x00\x01"


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"restart": "sometimes"}, "restart is 'sometimes'"),
        ({"command": ["a", ""]}, "command has an empty word"),
        ({"healthcheck": {"interval": "soon"}}, "'soon' is no duration"),
        ({"uploads": [{"file": "/x"}]}, "upload /x needs one of"),
        ({"uploads": [{"file": "/x", "content": "y", "permissions": "7"}]}, "permissions of /x"),
        ({"mounts": [{"type": "nfs", "target": "/x"}]}, "mount type is 'nfs'"),
        ({"volumes": [{"readOnly": True}]}, "a volume needs containerPath or fromContainer"),
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

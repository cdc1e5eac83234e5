"""A virtual device, booted: systemd, its engine, a supervisor, an arm64 image. No fleet is up."""

import base64
import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import docker
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from gantry.contracts.device_types import Architecture
from gantry.deployment import provisioning, virtual_device
from gantry.deployment.images import build_image
from gantry.deployment.paths import repository_root
from gantry.deployment.progress import line_printer
from gantry.deployment.virtual_device import DeviceError, DeviceSpec

SAY = line_printer()
pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=600)
    yield client
    client.close()


@pytest.fixture(scope="module")
def spec(client: docker.DockerClient) -> Iterator[DeviceSpec]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    config = {
        "applicationId": "1",
        "apiKey": "key",
        "apiEndpoint": f"https://api.{name}.gantry.internal:18443",
        "deviceType": "raspberrypi3-64",
        "balenaRootCA": base64.b64encode(authority()).decode(),
        "unknownKey": "kept",
    }
    supervisor = provisioning.choose_supervisor(config, None, repository_root(), client, SAY)
    assert supervisor.local
    network = client.networks.create(virtual_device.network_name(name))
    yield DeviceSpec(f"{name}-pi", name, config, supervisor)
    try:
        virtual_device.stop(f"{name}-pi", client, SAY, keep=False)
    except DeviceError as error:
        SAY(str(error))
    network.remove()


@pytest.fixture(scope="module")
def shell(spec: DeviceSpec, client: docker.DockerClient) -> Callable[..., str]:
    image = build_image("virtual-device", SAY, client=client)
    virtual_device.run(spec, image.tag, client, SAY)

    def run(*command: str) -> str:
        result = virtual_device.get(spec.name, client).exec_run(list(command))
        assert isinstance(result.output, bytes)
        assert result.exit_code == 0, result.output
        return result.output.decode().strip()

    return run


def authority() -> bytes:
    """A certificate of an authority, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def wait_for_supervisor(shell: Callable[..., str]) -> str:
    """The id of the supervisor's container, once it runs."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if found := shell("docker", "ps", "-q", "--filter", "name=gantry_supervisor"):
            return found
        time.sleep(0.5)
    raise AssertionError(shell("journalctl", "-u", "gantry-supervisor", "-n", "30"))


def test_it_boots_without_a_failed_unit(shell: Callable[..., str]) -> None:
    # Ends with 0 only for "running"; a busy engine may lose a short-lived command's output.
    assert shell("systemctl", "is-system-running") in ("running", "")
    assert "0 loaded units listed" in shell("systemctl", "--failed")


def test_only_a_devices_own_ports_are_open(shell: Callable[..., str]) -> None:
    wait_for_supervisor(shell)
    listening = {line.split()[3] for line in shell("ss", "-Hlnt").splitlines()}
    # The resolver for containers, Docker's own for the fleet's network, the supervisor's api, SSH.
    expected = {"10.114.102.1:53", "0.0.0.0:48484", "0.0.0.0:22222", "[::]:22222"}
    assert {each for each in listening if not each.startswith("127.0.0.")} <= expected


def test_what_runs_is_a_devices_but_for_what_a_container_cannot_have(
    shell: Callable[..., str],
) -> None:
    wait_for_supervisor(shell)
    listed = shell("systemctl", "list-units", "--type=service", "--state=running", "--plain", "-q")
    assert {line.split()[0].removesuffix(".service") for line in listed.splitlines()} == {
        "avahi-daemon",
        "containerd",
        "dbus",
        "docker",
        "gantry-dns",
        "gantry-engine-watchdog",
        "gantry-ssh",
        "gantry-supervisor",
        "systemd-journald",
        "systemd-logind",
    }


def test_the_kernel_is_its_hosts(shell: Callable[..., str]) -> None:
    script = "for each in net/ipv4/ip_forward kernel/sysrq vm/swappiness; do"
    script += " [ -w /proc/sys/$each ] && echo yes || echo no; done"
    assert shell("sh", "-c", script).split() == ["yes", "no", "no"]


def test_its_name_is_what_it_was_called(shell: Callable[..., str], spec: DeviceSpec) -> None:
    wait_for_supervisor(shell)
    assert shell("hostname") == spec.name
    assert shell("getent", "hosts", spec.name)


def test_the_engine_trusts_the_fleet(shell: Callable[..., str], spec: DeviceSpec) -> None:
    path = f"/etc/docker/certs.d/registry.{spec.fleet}.gantry.internal:18443/ca.crt"
    assert "BEGIN CERTIFICATE" in shell("cat", path)


def test_it_runs_arm64_images(
    shell: Callable[..., str], spec: DeviceSpec, client: docker.DockerClient
) -> None:
    image = build_image("raspios", SAY, arch=Architecture.AARCH64, client=client)
    name = virtual_device.container_name(spec.name)
    with subprocess.Popen(["docker", "save", image.tag], stdout=subprocess.PIPE) as saved:
        subprocess.run(["docker", "exec", "-i", name, "docker", "load"], stdin=saved.stdout)
    script = f"uname -m && getent hosts {name}"
    lines = shell("docker", "run", "--rm", "--network", "bridge", image.tag, "sh", "-c", script)
    assert "aarch64" in lines
    # The names of the fleet's network reach the application's containers.
    assert name in lines
    # It gets what the device itself may have: the host gives no more.
    assert shell("docker", "run", "--rm", "--privileged", image.tag, "echo", "privileged")
    assert shell("docker", "info", "--format", "{{.LoggingDriver}}") == "json-file"


def test_the_supervisor_runs_from_the_mounted_source(
    shell: Callable[..., str], spec: DeviceSpec, client: docker.DockerClient
) -> None:
    before = wait_for_supervisor(shell)
    mounts = json.loads(shell("docker", "inspect", "-f", "{{json .Mounts}}", before))
    assert {each["Destination"]: each["RW"] for each in mounts} == {
        "/mnt/boot": True,
        "/var/run/docker.sock": True,
        "/data": True,
        "/mnt/data": True,
        "/mnt/engine/image": False,
        "/mnt/engine/overlay2": False,
        "/run/gantry/host": False,
        "/tmp/balena-supervisor": True,
        "/opt/gantry/src/gantry": False,
    }
    virtual_device.refresh(spec.name, client, SAY)
    assert wait_for_supervisor(shell) != before


def test_the_supervisor_sees_the_locks_of_applications(shell: Callable[..., str]) -> None:
    """The next boot, further down, ends them."""
    supervisor = wait_for_supervisor(shell)
    image = shell("docker", "inspect", "-f", "{{.Image}}", supervisor)
    lock = "/tmp/balena-supervisor/services/7/main:/tmp/balena"
    touch = ["--entrypoint", "touch", image, "/tmp/balena/updates.lock"]
    shell("docker", "run", "--rm", "-v", lock, *touch)
    seen = shell("docker", "exec", supervisor, "ls", "/tmp/balena-supervisor/services/7/main")
    assert seen == "updates.lock"


def test_its_journal_is_read_and_a_follower_leaves_nothing_behind(
    shell: Callable[..., str], spec: DeviceSpec
) -> None:
    wait_for_supervisor(shell)
    options = ["-n", "5", "-u", "gantry-supervisor"]
    command = virtual_device.journal_command(spec.name, options)
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "gantry-supervisor[" in output
    command = virtual_device.journal_command(spec.name, ["-f", *options])
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline()
        follower.kill()
    end = time.monotonic() + 10
    while "journalctl" in shell("ps", "-eo", "comm"):
        assert time.monotonic() < end
        time.sleep(0.2)


def test_it_reboots(
    shell: Callable[..., str], spec: DeviceSpec, client: docker.DockerClient
) -> None:
    before = virtual_device.get(spec.name, client).attrs["State"]["StartedAt"]
    virtual_device.get(spec.name, client).exec_run(["systemctl", "reboot"])
    end = time.monotonic() + 30
    while time.monotonic() < end:
        state = virtual_device.get(spec.name, client).attrs["State"]
        if state["StartedAt"] != before and state["Running"]:
            break
        time.sleep(0.2)
    # Running it again is waiting until it has booted.
    virtual_device.run(spec, "none", client, SAY)
    wait_for_supervisor(shell)
    assert shell("ls", "/tmp/balena-supervisor") == ""


def test_a_kept_device_comes_back_as_itself_and_a_stopped_one_is_gone(
    shell: Callable[..., str], spec: DeviceSpec, client: docker.DockerClient, tmp_path: Path
) -> None:
    def config() -> dict[str, str]:
        return dict(json.loads(shell("cat", "/mnt/boot/config.json")))

    wait_for_supervisor(shell)
    known_by = ("cat", "/etc/machine-id", "/mnt/state/gantry/ssh/ssh_host_ed25519_key.pub")
    identity_before = shell(*known_by)
    before = config()
    assert before["unknownKey"] == "kept"
    # `docker/<id>` or, where systemd is the engine's driver, `docker-<id>.scope`.
    identity = virtual_device.get(spec.name, client).id
    groups = [*Path("/sys/fs/cgroup").glob(f"**/*{identity}*")]
    assert groups
    virtual_device.stop(spec.name, client, SAY, keep=True)
    assert not [each for each in groups if each.exists()]
    image = build_image("virtual-device", SAY, client=client)
    virtual_device.run(spec, image.tag, client, SAY)
    assert config() == before
    assert shell(*known_by) == identity_before
    virtual_device.stop(spec.name, client, SAY, keep=False)
    with pytest.raises(DeviceError, match=f"no virtual device {spec.name}"):
        virtual_device.get(spec.name, client)
    names = {each.name for each in client.volumes.list()}
    assert not names & set(virtual_device.volume_names(spec.name))


def test_a_fleet_that_is_not_up_is_named(spec: DeviceSpec, client: docker.DockerClient) -> None:
    lost = DeviceSpec("lost", "nofleet", spec.config, spec.supervisor)
    with pytest.raises(DeviceError, match="fleet nofleet is not up here"):
        virtual_device.run(lost, "none", client, SAY)

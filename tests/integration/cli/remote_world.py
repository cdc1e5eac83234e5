"""A device to reach from afar: real sshd, real HTTP server, real services in an engine."""

import contextlib
import io
import secrets
import subprocess
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.models.containers import Container

from gantry.client.device_ssh import SSH_PORT
from gantry.deployment.images import build_image
from gantry.deployment.progress import line_printer

PAGE = "a page of the device\n"
# The device's own image, of which only these two servers are started. Its engine is this machine's.
_START = f"""
set -eu
mkdir -p /run/sshd /srv/www
echo '{PAGE.strip()}' > /srv/www/index.html
ssh-keygen -A
touch /etc/ssh/test_keys
python3 -m http.server -d /srv/www 80 >/dev/null 2>&1 &
exec /usr/sbin/sshd -D -e -p {SSH_PORT} -o PermitRootLogin=prohibit-password \
  -o PasswordAuthentication=no -o AuthorizedKeysFile=/etc/ssh/test_keys -o MaxAuthTries=4
"""


@dataclass
class DeviceHost:
    """A device's host as a container."""

    container: Container
    engine: docker.DockerClient

    @property
    def address(self) -> str:
        """Of the container."""
        self.container.reload()
        found: str = self.container.attrs["NetworkSettings"]["IPAddress"]
        return found

    def let_in(self, public_key: str | None) -> None:
        """One key may log in as root, or none."""
        line = f"printf '%s\\n' '{public_key or ''}' > /etc/ssh/test_keys"
        assert self.container.exec_run(["sh", "-c", line]).exit_code == 0

    def run(self, line: str) -> str:
        """What a line for the shell prints."""
        code, output = self.container.exec_run(["sh", "-c", line])
        assert code == 0, output.decode()
        return str(output.decode())


@contextlib.contextmanager
def device_host() -> Iterator[DeviceHost]:
    """A running one."""
    engine = docker.from_env(timeout=600)
    container = None
    try:
        image = build_image("virtual-device", line_printer(), client=engine)
        container = engine.containers.run(
            image.tag,
            ["-c", _START],
            entrypoint=["sh"],
            name=f"gantry-test-cli-{secrets.token_hex(4)}",
            healthcheck={"test": ["NONE"]},
            volumes=["/var/run/docker.sock:/var/run/docker.sock"],
            detach=True,
        )
        host = DeviceHost(container, engine)
        _wait_for_sshd(host)
        yield host
    finally:
        if container is not None:
            container.remove(force=True)
        engine.close()


def _wait_for_sshd(host: DeviceHost) -> None:
    deadline = time.monotonic() + 30
    while b"Server listening" not in host.container.logs():
        assert time.monotonic() < deadline, host.container.logs().decode()
        time.sleep(0.1)


@contextlib.contextmanager
def service(host: DeviceHost, name: str, *, bare: bool = False) -> Iterator[Container]:
    """A service's container, labelled as the supervisor does it. `bare`: with a program and nothing
    else, not even a shell."""
    labels = {"io.balena.supervised": "", "io.balena.service-name": name}
    if bare:
        host.engine.api.import_image_from_data(
            _program(host), repository="gantry-test-cli", tag=name
        )
        image, command = f"gantry-test-cli:{name}", ["/program", "1000"]
    else:
        image, command = host.container.image.tags[0], ["1000"]
    made = host.engine.containers.run(
        image,
        command,
        entrypoint=None if bare else ["sleep"],
        name=f"gantry-test-cli-{secrets.token_hex(4)}",
        healthcheck={"test": ["NONE"]},
        labels=labels,
        detach=True,
    )
    try:
        yield made
    finally:
        made.remove(force=True)
        if bare:
            host.engine.images.remove(image, force=True)


def _program(host: DeviceHost) -> bytes:
    """A tar with `sleep`, the libraries that it needs, and an empty folder."""
    line = (
        "ldd /bin/sleep | grep -o '/[^ ]*' | xargs tar -chf /tmp/p.tar /bin/sleep && cat /tmp/p.tar"
    )
    code, content = host.container.exec_run(["sh", "-c", line], stderr=False)
    assert code == 0
    made = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(content)) as source,
        tarfile.open(fileobj=made, mode="w") as target,
    ):
        for member in source:
            member_file = source.extractfile(member)
            if member.name == "bin/sleep":
                member.name = "program"
            target.addfile(member, member_file)
        folder = tarfile.TarInfo("data")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        target.addfile(folder)
    return made.getvalue()


def make_key(folder: Path, name: str = "id_ed25519") -> tuple[Path, str]:
    """A new key: the private file, and the public line."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True)
    return path, path.with_name(f"{name}.pub").read_text().strip()

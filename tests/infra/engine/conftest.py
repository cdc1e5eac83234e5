"""A Docker engine, an image of one static program, and a project to deploy."""

import contextlib
import io
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml
from docker import APIClient

from gantry.deployment import paths
from gantry.deployment.engine import Engine, Result, Step
from gantry.deployment.engine.executor import Reporter

PROGRAM = Path(__file__).parent / "program"
APPLETS = ("sh", "sleep", "cat", "ls", "true", "false", "test")


@pytest.fixture(scope="session")
def client() -> Iterator[APIClient]:
    connection = APIClient(version="auto")
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def busybox() -> Path:
    """Debian's static busybox, from the signed archive, kept for the next time."""
    kept = paths.cache_home() / "tests" / "busybox"
    if not kept.is_file():
        folder = kept.parent
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", "busybox-static"], cwd=folder, check=True)
        package = next(folder.glob("busybox-static_*.deb"))
        subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
        (folder / "unpacked" / "bin" / "busybox").rename(kept)
        package.unlink()
        shutil.rmtree(folder / "unpacked")
    return kept


def _import(client: APIClient, busybox: Path, tag: str) -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(busybox, "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        archive.addfile(tarfile.TarInfo(f"etc/{tag}"))
    name = f"gantry-engine-test-{uuid.uuid4().hex[:8]}"
    command = ['CMD ["sleep", "1000"]']
    client.import_image_from_data(buffer.getvalue(), repository=name, tag=tag, changes=command)
    return f"{name}:{tag}"


@pytest.fixture(scope="session")
def images(client: APIClient, busybox: Path) -> Iterator[tuple[str, str]]:
    """Two images that differ."""
    made = (_import(client, busybox, "one"), _import(client, busybox, "two"))
    yield made
    for name in made:
        client.remove_image(name, force=True)


@dataclass
class Recorder(Reporter):
    """Keeps what the engine reports."""

    ended: list[tuple[Step, str | None]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def end(self, step: Step, seconds: float, error: str | None) -> None:
        self.ended.append((step, error))

    def message(self, severity: str, text: str) -> None:
        self.messages.append(f"{severity}: {text}")


@dataclass
class Deployed:
    """A copy of the program as one stack, with names of its own."""

    root: Path
    home: Path
    stack: str
    client: APIClient
    config: dict[str, Any]
    recorder: Recorder = field(default_factory=Recorder)

    def configure(self, **changes: Any) -> None:
        self.config |= changes
        text = yaml.safe_dump({"config": {f"enginetest:{k}": v for k, v in self.config.items()}})
        (self.root / "stacks" / f"Pulumi.{self.stack}.yaml").write_text(text)

    @property
    def engine(self) -> Engine:
        return Engine(self.stack, self.root, self.home, self.recorder)

    @property
    def state_text(self) -> str:
        return self.engine.state_file.read_text()

    def inspect(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.inspect_container(f"{self.stack}-service")
        return found

    def run(self, *words: str) -> str:
        """A command in the service's container, and what it says."""
        execution = self.client.exec_create(f"{self.stack}-service", list(words))
        said = self.client.exec_start(execution["Id"], stream=False, demux=False)
        assert isinstance(said, bytes)
        return said.decode()

    def volumes(self) -> set[str]:
        found = self.client.volumes(filters={"name": self.stack})["Volumes"] or []
        return {volume["Name"] for volume in found}


def ops(result: Result) -> dict[str, str]:
    """What is done to what, without what stays."""
    return {step.name: step.op.value for step in result.changes}


@pytest.fixture
def deployed(tmp_path: Path, client: APIClient, images: tuple[str, str]) -> Iterator[Deployed]:
    root, home = tmp_path / "project", tmp_path / "home"
    shutil.copytree(PROGRAM, root)
    (root / "stacks").mkdir(exist_ok=True)
    home.mkdir()
    (home / "pulumi-passphrase").write_text("correct horse battery staple\n")
    stack = f"enginetest{uuid.uuid4().hex[:8]}"
    it = Deployed(root, home, stack, client, {})
    it.configure(image=images[0], file=str(tmp_path / "secret.txt"))
    yield it
    for name in ("service", "server"):
        with contextlib.suppress(docker.errors.NotFound):
            client.remove_container(f"{stack}-{name}", force=True, v=True)
    for network in client.networks(names=[f"{stack}-net"]):
        client.remove_network(network["Id"])
    for volume in it.volumes():
        client.remove_volume(volume, force=True)

"""The image as a fleet runs it, on a disk that is too small for what it is asked for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.models.containers import Container

from gantry.contracts.deltas import DeltaState
from gantry.deployment.images import build_image

from .conftest import Cloud
from .registry import archive
from .server import Asker, Server
from .test_outages import pushed

FOLDER = "/var/lib/gantry/deltas"


class Contained(Server):
    """The server in its container, which is on the machine's own network."""

    container: Container

    def run(self, engine: docker.DockerClient) -> None:
        self.container = engine.containers.create(
            build_image("deltas", lambda _: None, client=engine).tag,
            user="10001:10001",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            network_mode="host",
            mem_limit="768m",
            tmpfs={FOLDER: "size=3m,uid=10001,gid=10001"},
        )
        file = {"etc/gantry/deltas.json": json.dumps(self.config).encode()}
        self.container.put_archive("/", archive(file))
        self.container.start()
        self.wait(self._answers)

    def _answers(self) -> bool:
        self.container.reload()
        assert self.container.status != "exited", self.log
        health = ["curl", "-fsS", f"{self.url}/healthy"]
        return bool(self.container.exec_run(health).exit_code == 0)

    @property
    def log(self) -> str:
        return bytes(self.container.logs()).decode()

    def files(self, folder: str) -> list[str]:
        """Names in a folder of its volume."""
        listed = self.container.exec_run(["ls", f"{FOLDER}/{folder}"]).output
        assert isinstance(listed, bytes)
        return sorted(listed.decode().split())

    def remove(self) -> None:
        self.stop()
        self.container.remove(force=True, v=True)


@pytest.fixture
def contained(cloud: Cloud, tmp_path: Path) -> Iterator[Contained]:
    config: dict[str, Any] = cloud.config(data=FOLDER)
    engine = docker.from_env(timeout=600)
    server = Contained(config, tmp_path)
    try:
        server.run(engine)
        yield server
    finally:
        server.remove()
        engine.close()


def test_a_full_disk(cloud: Cloud, repository: str, contained: Contained) -> None:
    """It is told, what is not needed goes, and what fits is made."""
    asker = Asker(contained.client(cloud.token(repository)))
    small = pushed(cloud, repository, "fits")
    made = asker.settled([small[0]], small[1])
    assert made.state is DeltaState.READY
    large = pushed(cloud, repository, "does not fit", 2_000_000)
    got = asker.ask([large[0]], large[1], wait=50)
    assert got.status_code == 503, got.text
    assert "No space left on device" in got.json()["message"]
    assert got.headers["Retry-After"]
    assert contained.files("layers") == []
    assert contained.files("work") == []
    assert asker.fetch(made).status_code == 200
    another = pushed(cloud, repository, "fits too")
    assert asker.settled([another[0]], another[1]).state is DeltaState.READY
    assert "Traceback" not in contained.log

"""`gantry device sync` against the device's own programs: the unit's (roles/supervisor), an engine
on a port, and the supervisor's image. systemd alone is not here: a loop starts the unit anew."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from gantry.contracts.device_types import Architecture
from gantry.deployment.images import build_image
from gantry.local import supervisor_sync
from gantry.local.device_roads import EngineRoad, Places, SshRoad
from gantry.local.errors import DeviceUnreachableError, LocalError
from tests.integration.supervisor.conftest import ROOT, wait_until
from tests.integration.supervisor.second_engine import SecondEngine
from tests.integration.supervisor.ssh_server import SshServer
from tests.ports import free_port

pytestmark = pytest.mark.timeout(600)


class Unit:
    """The unit gantry-supervisor of a device whose partitions are folders here."""

    def __init__(self, home: Path, engine: SecondEngine, image: str) -> None:
        self.places = Places(str(home / "boot"), str(home / "data"))
        for each in (self.places.boot, self.places.data, home / "run"):
            Path(each).mkdir()
        self.log_path = home / "log"
        self.choice = Path(self.places.boot) / "supervisor.json"
        self.choice.write_text(json.dumps({"image": image, "kept": True}))
        config = {
            "apiEndpoint": f"http://127.0.0.1:{free_port()}",
            "applicationId": "1",
            "deviceType": "generic-amd64",
            "listenPort": free_port(),
        }
        (Path(self.places.boot) / "config.json").write_text(json.dumps(config))
        settings = home / "settings.json"
        environment = {
            "CONFIG_MOUNT_POINT": self.places.boot,
            "DOCKER_SOCKET": engine.socket,
            "GANTRY_INSTANCE": "test-sync",
        }
        folder = str(Path(engine.socket).parent)
        settings.write_text(
            json.dumps({"environment": environment, "volumes": [f"{folder}:{folder}"]})
        )
        self._environment = os.environ | {
            "GANTRY_BOOT": self.places.boot,
            "GANTRY_DATA": self.places.data,
            "GANTRY_RUN": str(home / "run"),
            "GANTRY_SUPERVISOR_SETTINGS": str(settings),
            "GANTRY_ENGINE_SOCKET": engine.socket,
            "PYTHONPATH": str(ROOT / "roles/supervisor/files"),
            "PYTHONUNBUFFERED": "1",
        }
        self._ended = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with self.log_path.open("ab") as log:
            while not self._ended.wait(1.0):
                words = [sys.executable, "-m", "gantry_supervisor", "run"]
                with subprocess.Popen(
                    words, env=self._environment, stdout=log, stderr=log
                ) as process:
                    self._process = process

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def close(self) -> None:
        self._ended.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(60)


class Sshd(SshServer):
    """An SSH server that sees the device's folders.

    Its systemctl leaves a note that the device's partitions are asked to act upon: there is no
    systemd here. What that does to the unit is ending the container.
    """

    def __init__(self, home: Path, client: docker.DockerClient) -> None:
        self.note = home / "restart"
        systemctl = home / "systemctl"
        systemctl.write_text(
            f"#!/bin/sh\necho $* >{self.note}\nwhile [ -e {self.note} ]; do sleep 0.1; done\n"
        )
        systemctl.chmod(0o755)
        super().__init__(home, client, [f"{home.parent}:{home.parent}"])

    def obey(self, engine: SecondEngine, ended: threading.Event) -> None:
        """Do what systemctl was told."""
        while not ended.wait(0.2):
            if self.note.exists():
                assert self.note.read_text() == "restart gantry-supervisor\n"
                engine.client.containers.get("gantry_supervisor").stop()
                self.note.unlink()


@pytest.fixture
def sshd(tmp_path: Path, second_engine: SecondEngine) -> Iterator[Sshd]:
    home = tmp_path / "ssh"
    home.mkdir()
    client = docker.from_env()
    one = Sshd(home, client)
    ended = threading.Event()
    thread = threading.Thread(target=one.obey, args=(second_engine, ended))
    thread.start()
    yield one
    ended.set()
    thread.join()
    one.close()
    client.close()


@pytest.fixture
def second_engine() -> Iterator[SecondEngine]:
    with tempfile.TemporaryDirectory(prefix="gantry-engine-") as home:
        one = SecondEngine(Path(home))
        yield one
        one.close()


@pytest.fixture
def unit(tmp_path: Path, second_engine: SecondEngine) -> Iterator[Unit]:
    built = build_image("supervisor", lambda *_: None, arch=Architecture.AMD64)
    here = docker.from_env()
    saved = subprocess.Popen(["docker", "save", built.tag], stdout=subprocess.PIPE)
    load = ["docker", "--host", f"unix://{second_engine.socket}", "load"]
    with saved:
        subprocess.run(load, stdin=saved.stdout, check=True)
    here.close()
    one = Unit(tmp_path, second_engine, built.tag)
    yield one
    one.close()
    print(one.log())


def test_a_changed_supervisor_and_the_way_back(
    unit: Unit, second_engine: SecondEngine, tmp_path: Path
) -> None:
    wait_until("the shipped one", lambda: "the supervisor is healthy" in unit.log(), 180)
    mine = tmp_path / "mine" / "gantry"
    shutil.copytree(ROOT / "src" / "gantry", mine, ignore=shutil.ignore_patterns("__pycache__"))
    version = mine / "__init__.py"
    version.write_text(version.read_text().replace("0.1.0", "0.1.0+mine"))
    said: list[str] = []

    road = EngineRoad("127.0.0.1", second_engine.port, unit.places)
    supervisor_sync.sync(mine, road, unit.places, said.append)
    road.close()
    assert "supervisor 0.1.0+mine" in unit.log()
    choice = json.loads(unit.choice.read_text())
    assert choice["source"] == f"{unit.places.data}/supervisor-source"
    assert choice["kept"] is True
    files = {each.name for each in Path(choice["source"]).iterdir()}
    assert files == {"__init__.py", "contracts", "supervisor"}

    road = EngineRoad("127.0.0.1", second_engine.port, unit.places)
    supervisor_sync.back(road, unit.places, said.append)
    road.close()
    assert unit.log().rindex("supervisor 0.1.0\n") > unit.log().index("supervisor 0.1.0+mine")
    assert "source" not in json.loads(unit.choice.read_text())
    assert not Path(choice["source"]).exists()
    names = [each.name for each in second_engine.client.containers.list(all=True)]
    assert names == ["gantry_supervisor"], "something is left on the device"


def test_by_ssh(unit: Unit, sshd: Sshd, tmp_path: Path) -> None:
    wait_until("the shipped one", lambda: "the supervisor is healthy" in unit.log(), 180)
    road = SshRoad("127.0.0.1", sshd.port, sshd.options)
    supervisor_sync.sync(ROOT / "src" / "gantry", road, unit.places, lambda _: None)
    source = Path(json.loads(unit.choice.read_text())["source"])
    assert (source / "supervisor" / "__main__.py").is_file()
    assert unit.log().count("supervisor 0.1.0\n") == 2
    supervisor_sync.back(road, unit.places, lambda _: None)
    assert json.loads(unit.choice.read_text()).keys() == {"image", "kept"}
    assert not source.exists()

    unit.choice.write_text("[]")
    with pytest.raises(LocalError, match=r"supervisor\.json on the device is broken"):
        supervisor_sync.sync(ROOT / "src" / "gantry", road, unit.places, lambda _: None)
    assert unit.choice.read_text() == "[]"
    other = SshRoad("127.0.0.1", free_port(), sshd.options)
    with pytest.raises(LocalError, match="ssh to"):
        other.run("true")


def test_a_source_that_is_gone_is_not_mounted(unit: Unit) -> None:
    """As after a factory reset, which leaves the boot partition and nothing of the data."""
    wait_until("the shipped one", lambda: "the supervisor is healthy" in unit.log(), 180)
    choice = json.loads(unit.choice.read_text())
    unit.choice.write_text(json.dumps(choice | {"source": "/mnt/nowhere/supervisor-source"}))
    before = unit.log().count("the supervisor is healthy")
    (Path(unit.places.boot) / "config.json").write_text(
        (Path(unit.places.boot) / "config.json").read_text().replace("generic-amd64", "intel-nuc")
    )
    wait_until("it again", lambda: unit.log().count("the supervisor is healthy") > before, 180)
    assert "/mnt/nowhere/supervisor-source" in unit.log()


def test_no_engine_is_said(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "gantry.cli.main", "device", "sync", "127.0.0.1"]
    words += ["--engine-port", str(free_port())]
    home = os.environ | {"GANTRY_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(words, env=home, capture_output=True, text=True)
    assert done.returncode == 5
    assert "no engine answers" in done.stderr
    assert "Traceback" not in done.stderr
    assert DeviceUnreachableError.code == 5

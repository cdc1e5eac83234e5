"""The programs that run the supervisor's container: which image, which body, which way back."""

import base64
import importlib
import json
import re
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from gantry import __version__
from gantry.contracts.device_types import DEVICE_TYPES

ROLE = Path(__file__).parents[3] / "roles/supervisor"
sys.path.append(str(ROLE / "files"))


def module(name: str) -> ModuleType:
    return importlib.import_module(f"gantry_supervisor.{name}")


container, engine, health = module("container"), module("engine"), module("health")
images, run, settings, trial = (module(e) for e in ("images", "run", "settings", "trial"))
update, asked, storage = module("update"), module("asked"), module("storage")

CONFIG = {"apiEndpoint": "https://api.devbots.gantry.internal:8443", "apiKey": "fleets"}
ROLE_SETTINGS = settings.RoleSettings(version="0.1.0", architecture="aarch64")
FLEETS = "registry.devbots.gantry.internal:8443/gantry/aarch64-supervisor:0.1.0"


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device's folders, with the supervisor's data in them."""
    for name in ("boot", "data/supervisor", "run"):
        (tmp_path / name).mkdir(parents=True)
    for name, path in {
        "CHOICE": "boot/supervisor.json",
        "CONFIG": "boot/config.json",
        "STORE": "data/supervisor",
        "STORE_BEFORE": "data/supervisor.before-update",
    }.items():
        monkeypatch.setattr(settings, name, tmp_path / path)
    monkeypatch.setattr(trial, "TRIAL", tmp_path / "run/trial.json")
    monkeypatch.setattr(trial, "OUTCOME", tmp_path / "run/outcome.json")
    monkeypatch.setattr(update, "RESULT", tmp_path / "run/update.json")
    (tmp_path / "data/supervisor/database.sqlite").write_text("old")
    return tmp_path


def test_the_roles_version_is_the_platforms() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    assert str(defaults["supervisor_version"]) == __version__


def test_the_role_knows_every_device_type() -> None:
    known = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__supervisor_architectures"]
    assert known == {each.slug: str(each.architecture) for each in DEVICE_TYPES}


def test_the_role_installs_every_module() -> None:
    listed = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__supervisor_modules"]
    assert listed == sorted(each.stem for each in (ROLE / "files/gantry_supervisor").glob("*.py"))


@pytest.mark.parametrize(
    ("config", "registry"),
    [
        ({}, ""),
        ({"apiEndpoint": "https://api.bots.example"}, "registry.bots.example"),
        ({"apiEndpoint": "https://api.bots.example:8443/"}, "registry.bots.example:8443"),
        ({"registryEndpoint": "https://r.example:5000/", **CONFIG}, "r.example:5000"),
    ],
)
def test_the_registry_is_named_or_beside_the_api(config: dict[str, Any], registry: str) -> None:
    assert settings.registry_of(config) == registry


def test_a_new_device_runs_the_fleets_image_and_a_chosen_one_goes_before_it() -> None:
    assert settings.current_image(settings.Choice(), ROLE_SETTINGS, CONFIG) == FLEETS
    assert settings.current_image(settings.Choice({"image": "a:1"}), ROLE_SETTINGS, CONFIG) == "a:1"
    assert settings.current_image(settings.Choice(), ROLE_SETTINGS, {}) == ""


@pytest.mark.parametrize(
    ("keys", "login"),
    [
        ({"apiKey": "fleets"}, ("provisioning", "fleets")),
        ({"apiKey": "fleets", "uuid": "u", "deviceApiKey": "own"}, ("provisioning", "fleets")),
        ({"uuid": "u", "deviceApiKey": "own", "deviceId": 7}, ("d_u", "own")),
        ({"uuid": "u", "deviceApiKey": "own"}, ("d_u", "own")),
        ({}, None),
    ],
)
def test_the_key_is_the_fleets_until_the_device_has_registered(
    keys: dict[str, Any], login: tuple[str, str] | None
) -> None:
    config = {"apiEndpoint": CONFIG["apiEndpoint"], **keys}
    assert settings.login(config, FLEETS) == login


def test_no_other_registry_gets_a_key() -> None:
    assert settings.login(CONFIG, "registry.example/gantry/aarch64-supervisor:0.1.0") is None
    assert settings.login(CONFIG, "busybox") is None


@pytest.mark.parametrize(
    ("image", "parts"),
    [
        ("busybox", ("busybox", "latest")),
        ("registry:5000/a/b", ("registry:5000/a/b", "latest")),
        ("registry:5000/a/b:2", ("registry:5000/a/b", "2")),
        ("registry/a@sha256:00", ("registry/a", "sha256:00")),
    ],
)
def test_references_have_a_name_and_a_tag_or_digest(image: str, parts: tuple[str, str]) -> None:
    assert engine.split_reference(image) == parts


def test_a_change_of_what_the_supervisor_itself_writes_starts_nothing_anew() -> None:
    before = settings.fingerprint(CONFIG)
    registered = {**CONFIG, "uuid": "u", "deviceApiKey": "own", "deviceId": 7, "hostname": "robot"}
    assert settings.fingerprint({k: v for k, v in registered.items() if k != "apiKey"}) == before
    assert settings.fingerprint({**CONFIG, "listenPort": 48485}) != before


def test_the_container_is_on_the_hosts_network_with_its_limits() -> None:
    role = settings.RoleSettings(memory=1000, oom_score_adj=-800, environment={"A": "1", "B": "2"})
    chosen = settings.Choice({"environment": {"B": "3"}})
    folders = {"/mnt/engine/overlay2": "/mnt/data/docker/overlay2"}
    body = container.body("image", role, chosen, 1 << 24, "/mnt/data/docker", folders)
    assert body == {
        "Image": "image",
        "Env": ["A=1", "B=3"],
        "Healthcheck": {"Test": ["NONE"]},
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "NetworkMode": "host",
            "Mounts": [
                {
                    "Type": "bind",
                    "Source": "/mnt/data",
                    "Target": "/mnt/data",
                    "BindOptions": {"NonRecursive": True, "Propagation": "rslave"},
                },
                {
                    "Type": "bind",
                    "Source": "/mnt/data/docker/overlay2",
                    "Target": "/mnt/engine/overlay2",
                    "ReadOnly": True,
                    "BindOptions": {"NonRecursive": True},
                },
            ],
            "Binds": [
                "/mnt/boot:/mnt/boot",
                "/var/run/docker.sock:/var/run/docker.sock",
                "/mnt/data/supervisor:/data",
                "/tmp/balena-supervisor:/tmp/balena-supervisor",
                "/run/gantry/host:/run/gantry/host:ro",
            ],
            "LogConfig": {"Type": "none"},
            "Memory": 1000,
            "OomScoreAdj": -800,
        },
    }


@pytest.mark.parametrize(
    ("driver", "there", "found"),
    [
        ("overlay2", ["docker/image", "docker/overlay2"], ["docker/image", "docker/overlay2"]),
        ("overlay2", ["docker/overlay2"], []),
        ("vfs", ["docker/image", "docker/vfs"], []),
        (
            "overlayfs",
            [f"containerd/{storage.SNAPSHOTTER}", f"containerd/{storage.CONTENT}", "docker/image"],
            [f"containerd/{storage.CONTENT}", f"containerd/{storage.SNAPSHOTTER}"],
        ),
        (
            "overlayfs",
            [f"docker/containerd/daemon/{e}" for e in (storage.SNAPSHOTTER, storage.CONTENT)],
            [f"docker/containerd/daemon/{e}" for e in (storage.CONTENT, storage.SNAPSHOTTER)],
        ),
    ],
)
def test_the_engine_s_layers_are_mounted_where_they_are_known(
    tmp_path: Path, driver: str, there: list[str], found: list[str]
) -> None:
    for each in there:
        (tmp_path / each).mkdir(parents=True)
    info = {"Driver": driver, "DockerRootDir": str(tmp_path / "docker")}
    assert storage.folders(info) == {
        f"/mnt/engine/{each.rpartition('/')[2]}": str(tmp_path / each) for each in found
    }


def test_a_disk_that_is_not_the_engine_s_is_mounted_as_any_other() -> None:
    host = container.body("i", settings.RoleSettings(), settings.Choice(), 0, "/var/lib/docker")
    [mount] = host["HostConfig"]["Mounts"]
    assert mount["BindOptions"]["Propagation"] == "rprivate"


def test_a_host_that_may_raise_nobody_asks_for_no_score() -> None:
    role = settings.RoleSettings(oom_score_adj=-800)
    assert "OomScoreAdj" not in container.body("i", role, settings.Choice(), 0)["HostConfig"]
    lower = settings.RoleSettings(oom_score_adj=100)
    host = container.body("i", lower, settings.Choice(), 0)["HostConfig"]
    assert host["OomScoreAdj"] == 100


def test_a_mounted_source_replaces_the_package() -> None:
    chosen = settings.Choice({"source": "/opt/gantry-source"})
    binds = container.body("i", ROLE_SETTINGS, chosen, 0)["HostConfig"]["Binds"]
    assert binds[-1] == "/opt/gantry-source:/opt/gantry/src/gantry:ro"


def test_a_kept_trial_is_the_devices_choice_and_the_old_image_may_go(device: Path) -> None:
    settings.write_choice(settings.Choice({"source": "kept"}))
    trial.ask(trial.Trial("new:2", 60.0, 5.0))
    asked = trial.begin(trial.pending())
    assert asked.begun
    assert trial.pending().begun
    trial.keep(asked, settings.choice(), FLEETS)
    assert settings.choice().document == {
        "image": "new:2",
        "obsolete": [FLEETS],
        "source": "kept",
    }
    assert trial.pending() is None
    assert trial.outcome() == trial.Outcome("new:2", kept=True)
    assert not (device / "data/supervisor.before-update").exists()


def test_a_trial_that_failed_leaves_choice_and_data_as_they_were(device: Path) -> None:
    settings.write_choice(settings.Choice({"image": "old:1"}))
    trial.ask(trial.Trial("new:2", 60.0, 5.0))
    asked = trial.begin(trial.pending())
    (device / "data/supervisor/database.sqlite").write_text("as only the new one reads it")
    (device / "data/supervisor/more").write_text("of the new one")
    trial.give_up(asked, settings.choice(), "old:1", "it ended with status 1")
    assert settings.choice().image == "old:1"
    assert settings.choice().obsolete == ("new:2",)
    assert trial.outcome() == trial.Outcome("new:2", kept=False, reason="it ended with status 1")
    store = device / "data/supervisor"
    assert [each.name for each in store.iterdir()] == ["database.sqlite"]
    assert (store / "database.sqlite").read_text() == "old"


def test_power_lost_in_a_trial_is_the_old_one_with_its_data(device: Path) -> None:
    trial.ask(trial.Trial("new:2", 60.0, 5.0))
    trial.begin(trial.pending())
    (device / "data/supervisor/database.sqlite").write_text("as only the new one reads it")
    for each in (device / "run").iterdir():
        each.unlink()
    trial.restore()
    assert trial.pending() is None
    assert settings.choice().image == ""
    assert (device / "data/supervisor/database.sqlite").read_text() == "old"


def test_the_next_update_is_tried_by_a_process_that_kept_one(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    following = trial.Trial("newer:3", 60.0, 5.0)

    class Kept:
        """A container that is kept, and runs until somebody asks for the next one."""

        def __init__(self, _engine: Any, _image: str, _config: Any, asked: Any) -> None:
            self._asked = asked

        def run(self) -> None:
            trial.keep(self._asked, settings.choice(), FLEETS)
            trial.ask(following)
            raise run.EndError("the supervisor has ended with status 0")

    monkeypatch.setattr(run, "Watch", Kept)
    trial.ask(trial.Trial("new:2", 60.0, 5.0))
    with pytest.raises(run.EndError, match="ended with status 0"):
        run._try(engine.Engine(str(device / "none.sock")), trial.pending())
    assert trial.pending() == following
    assert trial.outcome() is None
    assert settings.choice().image == "new:2"


def test_no_update_is_asked_for_in_the_middle_of_another(device: Path) -> None:
    trial.ask(trial.Trial("new:2", 60.0, 5.0))
    begun = trial.begin(trial.pending())
    with pytest.raises(update.UpdateError, match="another update is under way, to new:2"):
        update._update(engine.Engine(str(device / "none.sock")), "newer:3", "", None, None)
    assert trial.pending() == begun


NAME = "registry.devbots.gantry.internal:8443/gantry/aarch64-supervisor"
WANTED = f"{NAME}@sha256:{'a' * 64}"


@pytest.fixture
def fleets(device: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A device of a fleet, as the role and config.json have it."""
    settings.CONFIG.write_text(json.dumps(CONFIG))
    monkeypatch.setattr(settings, "role_settings", lambda: ROLE_SETTINGS)
    return device


@pytest.mark.parametrize(
    "image",
    [
        f"{NAME}:0.2.0",  # another image tomorrow
        f"{NAME}@sha256:abc",
        f"{NAME}@sha256:{'a' * 64} --version=1",
        f"registry.example/gantry/aarch64-supervisor@sha256:{'a' * 64}",
        f"{NAME.replace('aarch64', 'amd64')}@sha256:{'a' * 64}",
        "--version=0.2.0",
        None,
    ],
)
def test_only_the_fleets_supervisors_by_digest_are_asked_for(fleets: Path, image: object) -> None:
    assert asked.checked(WANTED) == WANTED
    with pytest.raises(asked.AskedError, match=f"only {NAME}@sha256:… is run here"):
        asked.checked(image)


def test_a_device_without_a_fleet_or_with_a_source_of_its_own_is_not_updated(fleets: Path) -> None:
    settings.write_choice(settings.Choice({"source": "/opt/source"}))
    with pytest.raises(asked.AskedError, match="is run from /opt/source"):
        asked.checked(WANTED)
    settings.CONFIG.write_text("{}")
    with pytest.raises(asked.AskedError, match="names no fleet"):
        asked.checked(WANTED)


def test_an_update_that_is_asked_for_is_a_unit_of_its_own() -> None:
    command = asked.command(WANTED)
    assert command[0] == "systemd-run"
    assert command[-2:] == ["/usr/local/sbin/gantry-supervisor-update", WANTED]
    assert "--unit=gantry-supervisor-update.service" in command
    assert "--collect" in command


def test_the_host_tells_what_runs_by_all_of_its_names(
    fleets: Path, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"Image": "id", "Config": {"Image": FLEETS}, "RepoDigests": [WANTED]}
    client, _ = answering(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(body).encode())
    monkeypatch.setattr(asked, "Engine", lambda: client)
    told = {"image": FLEETS, "digests": [WANTED], "tags": True, "trying": False, "result": None}
    assert asked.state() == told
    trial.ask(trial.Trial("new:2", 60.0, 5.0))
    assert asked.state() == told
    trial.begin(trial.pending())
    assert asked.state() == told | {"trying": True}


class Having(engine.Engine):  # type: ignore[misc,name-defined]
    """An engine with images of these names, which needs nothing else."""

    def __init__(self, *names: str) -> None:
        self.names = [*names]

    def image(self, reference: str) -> dict[str, Any] | None:
        return {"Id": reference} if reference in self.names else None

    def remove(self, path: str) -> bool:
        name = path.removeprefix("/images/")
        was_there = name in self.names
        self.names = [each for each in self.names if each != name]
        return was_there

    def pull(self, reference: str, _login: Any) -> Iterator[str]:
        yield f"pulling {reference}"
        self.names.append(reference)


def test_what_came_by_delta_is_found_by_its_tag_and_goes_by_it(
    fleets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "PRELOAD", fleets / "preload")
    tag = f"{NAME}:sha256-{'a' * 64}"
    assert (images.tagged(WANTED), images.canonical(tag)) == (tag, WANTED)
    assert (images.tagged(FLEETS), images.canonical(FLEETS)) == ("", FLEETS)
    said: list[str] = []
    here = Having(tag)
    assert images.held(here, WANTED) == tag
    images.ensure(here, WANTED, {}, said.append)
    assert (here.names, said) == ([tag], [])
    images.forget(here, (WANTED,), FLEETS, said.append)
    assert (here.names, said) == ([], [f"removed {WANTED}"])
    # After a factory reset, say: the registry has it by its digest.
    images.ensure(here, WANTED, {}, said.append)
    assert here.names == [WANTED]
    assert images.held(here, WANTED) == WANTED


def test_an_image_that_is_not_to_be_had_is_a_result(
    fleets: Path, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = answering(b'HTTP/1.0 404 No\r\n\r\n{"message": "manifest unknown"}\n')
    monkeypatch.setattr(update, "Engine", lambda: client)
    monkeypatch.setattr(settings, "PRELOAD", fleets / "preload")
    assert update._told(WANTED, "", None, None) == 1
    message = f"{WANTED} cannot be pulled: manifest unknown"
    assert update.result() == update.Result(WANTED, "failed", message)
    assert trial.pending() is None


def test_an_image_that_came_back_is_a_result_of_its_own(
    fleets: Path, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd's part, the restart of the unit, is that of a unit that tries and gives up."""
    client, _ = answering(b'HTTP/1.0 200 OK\r\n\r\n{"Id": "new", "Image": "old"}\n')
    monkeypatch.setattr(update, "Engine", lambda: client)
    monkeypatch.setattr(settings, "PRELOAD", fleets / "preload")
    monkeypatch.setattr(update, "_wait_for_health", lambda _port, _seconds: True)

    def restart(verb: str) -> None:
        assert verb == "restart"
        begun = trial.begin(trial.pending())
        trial.give_up(begun, settings.choice(), FLEETS, "it ended with status 1")

    monkeypatch.setattr(update, "_systemctl", restart)
    assert update._told(WANTED, "", None, None) == 1
    found = update.result()
    assert (found.image, found.state) == (WANTED, "returned")
    assert "was not kept: it ended with status 1" in found.message
    # The next one is not taken for this one's result.
    monkeypatch.setattr(update, "_update", lambda *_: json.dumps(update.result()))
    assert update._told(WANTED, "", None, None) == 0
    assert update.result() == update.Result(WANTED, "updated", "null")


def test_what_runs_already_under_another_name_is_not_tried(
    fleets: Path, answering: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = answering(b'HTTP/1.0 200 OK\r\n\r\n{"Id": "same", "Image": "same"}\n')
    monkeypatch.setattr(settings, "PRELOAD", fleets / "preload")
    said = update._update(client, WANTED, "", None, None)
    assert said == f"{WANTED} runs already, as {FLEETS}"
    assert trial.pending() is None


@pytest.mark.parametrize("left", ["supervisor.before-update.new", "supervisor.failed"])
def test_what_a_loss_of_power_left_does_not_stop_the_next_trial(device: Path, left: str) -> None:
    (device / "data" / left).mkdir()
    (device / "data" / left / "half").write_text("")
    trial.ask(trial.Trial("new:2", 60.0, 5.0))
    trial.begin(trial.pending())
    trial.restore()
    assert sorted(each.name for each in (device / "data").iterdir()) == ["supervisor"]


def test_power_lost_between_two_renames_loses_no_data(device: Path) -> None:
    trial.ask(trial.Trial("new:2", 60.0, 5.0))
    trial.begin(trial.pending())
    (device / "data/supervisor").rename(device / "data/supervisor.failed")
    trial.restore()
    assert (device / "data/supervisor/database.sqlite").read_text() == "old"


class _Server:
    """Answers every request on a socket with the same bytes, and keeps what was asked."""

    def __init__(self, family: socket.AddressFamily, address: Any, answer: bytes) -> None:
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind(address)
        self._listener.listen()
        self.address = self._listener.getsockname()
        self.asked: list[bytes] = []
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(65536))
                connection.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Any]:
    """An engine that answers as a test says: a real one breaks off no answer on demand."""
    servers = []

    def start(answer: bytes) -> tuple[Any, _Server]:
        path = str(tmp_path / f"{len(servers)}.sock")
        servers.append(_Server(socket.AF_UNIX, path, answer))
        return engine.Engine(path), servers[-1]

    yield start
    for each in servers:
        each.close()


def test_the_engines_words_are_the_reason(answering: Any) -> None:
    client, _ = answering(b'HTTP/1.0 500 Oh\r\nA: b\r\n\r\n{"message": "no such thing"}\n')
    with pytest.raises(engine.EngineError, match="no such thing") as error:
        client.ask("GET", "/x")
    assert error.value.status == 500


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n"])
def test_an_answer_that_breaks_off_is_an_engine_that_is_gone(answering: Any, answer: bytes) -> None:
    client, _ = answering(answer)
    with pytest.raises(engine.EngineGoneError):
        client.ask("GET", "/x")


def test_no_engine_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(engine.EngineGoneError, match="No such file"):
        engine.Engine(str(tmp_path / "none")).ask("GET", "/version")


def test_a_download_that_fails_in_its_stream_fails(answering: Any) -> None:
    lines = b'{"status": "Pulling"}\r\n{"error": "manifest unknown"}\r\n'
    client, server = answering(b"HTTP/1.0 200 OK\r\n\r\n" + lines)
    with pytest.raises(engine.EngineError, match="manifest unknown"):
        list(client.pull("registry/a:2", ("provisioning", "secret")))
    head = server.asked[0].decode()
    assert head.startswith("POST /images/create?fromImage=registry%2Fa&tag=2 HTTP/1.0\r\n")
    token = re.search(r"X-Registry-Auth: (\S+)", head)
    assert token
    assert json.loads(base64.urlsafe_b64decode(token[1])) == {
        "username": "provisioning",
        "password": "secret",
    }


@pytest.mark.parametrize(
    ("answer", "well"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nOK", True),
        (b"HTTP/1.1 500 Internal Server Error\r\n\r\nUnhealthy", False),
        (b"", False),
    ],
)
def test_health_is_what_the_supervisor_says(answer: bytes, well: bool) -> None:
    server = _Server(socket.AF_INET, ("127.0.0.1", 0), answer)
    try:
        assert health.healthy(server.address[1], 2.0) is well
    finally:
        server.close()
    assert health.healthy(server.address[1], 2.0) is False


def test_a_broken_choice_keeps_no_device_from_having_a_supervisor(device: Path) -> None:
    settings.CHOICE.write_text('{"image": "new')
    chosen = settings.choice()
    assert "supervisor.json is not JSON" in chosen.problem
    assert settings.current_image(chosen, ROLE_SETTINGS, CONFIG) == FLEETS
    settings.write_choice(chosen.changed(image="new:2"))
    assert settings.choice() == settings.Choice({"image": "new:2"})


def test_a_choice_whose_writing_lost_power_is_read(device: Path) -> None:
    settings.CHOICE.with_name("supervisor.json.tmp").write_text('{"image": "new:2"}')
    assert settings.choice().image == "new:2"
    settings.CHOICE.write_text('{"ima')
    assert settings.choice().image == "new:2"
    settings.CHOICE.write_text('{"image": "old:1"}')
    assert settings.choice().image == "old:1"

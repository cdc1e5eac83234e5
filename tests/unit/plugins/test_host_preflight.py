"""What is in the way of provisioning, each with a sentence that says what to do."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.unit.conftest import answer, speak_tls

ROOT = Path(__file__).parents[3]
SPEC = importlib.util.spec_from_file_location(
    "host_preflight", ROOT / "plugins" / "modules" / "host_preflight.py"
)
assert SPEC
assert SPEC.loader
preflight = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(preflight)


def test_room_is_asked_of_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    assert preflight.room_problem(tmp_path / "mnt" / "data", 1) == ""
    problem = preflight.room_problem(tmp_path / "mnt" / "data", 2**40)
    assert problem.startswith(f"{tmp_path} has ")
    assert f"make it {2**40}" in problem
    (tmp_path / "docker").mkdir()
    assert preflight.room_problem(tmp_path, 2**40) == ""


def test_memory() -> None:
    assert preflight.memory_problem(1) == ""
    assert "are needed" in preflight.memory_problem(2**40)


def test_other_agents_are_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for unit in ("mender-updated.service", "mender-authd.service", "balena-supervisor.service"):
        (tmp_path / unit).touch()
    monkeypatch.setattr(preflight, "UNIT_FOLDERS", (str(tmp_path),))
    monkeypatch.setattr(preflight, "containers", lambda: ["resin_supervisor", "main_1"])
    monkeypatch.setattr(preflight, "OTHER_ENGINES", ("bash", "no-such-package"))
    assert preflight.agent_problems() == [
        "the agent of Mender is installed: remove it, one platform must rule a device",
        "the agent of balena is installed: remove it, one platform must rule a device",
        "the agent of resin is installed: remove it, one platform must rule a device",
        "the package bash is installed: remove it, a device runs Debian's docker.io",
    ]


def test_an_engine_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tmp_path / "docker"
    engine.write_text("#!/bin/sh\nexec sleep 60\n")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(preflight, "UNIT_FOLDERS", ())
    monkeypatch.setattr(preflight, "OTHER_ENGINES", ())
    monkeypatch.setattr(preflight, "ENGINE_SECONDS", 0.2)
    (problem,) = preflight.agent_problems()
    assert problem.startswith("its Docker does not answer within 0.2 s")


def test_an_endpoint_that_answers_anything_is_there(server: Any, tmp_path: Path) -> None:
    ca = speak_tls(server, tmp_path).read_text()
    server.answers["/v2/"] = answer(401, {})
    assert preflight.endpoint_problem(f"{server.url}/v2/", "", ca) == ""
    assert preflight.endpoint_problem(f"{server.url}/nothing", "127.0.0.1", ca) == ""
    assert server.seen == ["/v2/", "/nothing"]


def test_a_name_may_be_known_to_nobody(server: Any, tmp_path: Path) -> None:
    ca = speak_tls(server, tmp_path).read_text()
    url = f"https://api.devbots.gantry.invalid:{server.server_port}/ping"
    assert "-e fleet_address=" in preflight.endpoint_problem(url, "", ca)
    # With the address the name is reached, and the certificate is asked for that name.
    problem = preflight.endpoint_problem(url, "127.0.0.1", ca)
    assert "at 127.0.0.1: its certificate is not the fleet's" in problem
    assert "Hostname mismatch" in problem


def test_a_certificate_of_another(server: Any, tmp_path: Path) -> None:
    speak_tls(server, tmp_path)
    assert "its certificate is not the fleet's" in preflight.endpoint_problem(server.url, "", "")


@pytest.mark.parametrize(("begins", "said"), [(5, "not yet valid"), (-9, "has expired")])
def test_a_wrong_clock_is_thought_of(server: Any, tmp_path: Path, begins: int, said: str) -> None:
    ca = speak_tls(server, tmp_path, begins).read_text()
    problem = preflight.endpoint_problem(server.url, "", ca)
    assert said in problem
    assert "is the clock right?" in problem


def test_nobody_listens(server: Any) -> None:
    server.server_close()
    problem = preflight.endpoint_problem(f"https://localhost:{server.server_port}/", "", "")
    assert "does not answer" in problem
    assert "docs/runbooks/networks.md" in problem

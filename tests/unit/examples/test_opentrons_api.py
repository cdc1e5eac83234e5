"""The service of examples/opentrons-api, but for `opentrons` itself: tests/e2e has that."""

import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.testclient import TestClient

EXAMPLE = Path(__file__).parents[3] / "examples" / "opentrons-api"
TRANSFER = (EXAMPLE / "protocols" / "transfer.py").read_bytes()


@pytest.fixture(autouse=True, scope="module")
def importable() -> Iterator[None]:
    sys.path.insert(0, str(EXAMPLE))
    yield
    sys.path.remove(str(EXAMPLE))


def part(name: str) -> ModuleType:
    return importlib.import_module(f"opentrons_service.{name}")


class Simulator:
    """Answers as told; what the real one does is tested below."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.seen: list[tuple[bytes, str]] = []

    def simulate(self, content: bytes, name: str) -> Any:
        self.seen.append((content, name))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def serve(answer: Any, **environment: str) -> tuple[TestClient, Simulator]:
    simulator = Simulator(answer)
    choice = part("serial_port").Choice("/dev/ttyACM0", "because")
    settings = part("settings").from_environment(environment)
    return TestClient(part("web").create_app(settings, simulator, lambda: choice)), simulator


def log() -> Any:
    entries = [("Transferring", 0), ("Aspirating", 1)]
    runlog = [{"level": level, "text": text, "logs": []} for text, level in entries]
    return part("simulation").Simulated(runlog, 0.25)


def test_a_file_of_a_form() -> None:
    client, simulator = serve(log())
    answer = client.post("/simulate", files={"protocol": ("my/transfer.py", TRANSFER)})
    assert answer.status_code == 200
    assert answer.json()["protocol"] == "transfer.py"
    assert answer.json()["commands"] == 2
    assert answer.json()["runlog"][1] == {"level": 1, "text": "Aspirating", "logs": []}
    assert simulator.seen == [(TRANSFER, "transfer.py")]


@pytest.mark.parametrize(
    ("body", "query", "name"),
    [
        (TRANSFER, "", "protocol.py"),
        (b'{"metadata": {}}', "", "protocol.json"),
        (TRANSFER, "?name=a.py", "a.py"),
    ],
)
def test_a_bare_body(body: bytes, query: str, name: str) -> None:
    client, simulator = serve(log())
    assert client.post(f"/simulate{query}", content=body).status_code == 200
    assert simulator.seen == [(body, name)]


def test_text() -> None:
    client, _ = serve(log())
    answer = client.post("/simulate?format=text", content=TRANSFER)
    assert answer.text == "Transferring\n\tAspirating\n"


def test_what_is_no_protocol() -> None:
    client, simulator = serve(log(), OT_MAX_PROTOCOL_BYTES="1000")
    assert client.post("/simulate", content=b" \n").status_code == 400
    assert client.post("/simulate", data={"x": "y"}, files={"z": b""}).status_code == 400
    assert client.post("/simulate", content=b"x" * 1001).status_code == 413
    assert client.post("/simulate?name=a.zip", content=b"x").status_code == 415
    assert simulator.seen == []


def test_a_wrong_protocol_has_its_own_words() -> None:
    error = part("simulation").ProtocolError("SyntaxError", "'(' was never closed")
    client, _ = serve(error)
    answer = client.post("/simulate", content=TRANSFER)
    assert answer.status_code == 422
    assert answer.json() == {"error": "'(' was never closed", "kind": "SyntaxError"}


def test_one_that_takes_too_long() -> None:
    client, _ = serve(part("simulation").TooLongError("ended after 120 s"))
    assert client.post("/simulate", content=TRANSFER).status_code == 504


def test_the_serial_port() -> None:
    client, _ = serve(log())
    assert client.get("/serial").json() == {"device": "/dev/ttyACM0", "reason": "because"}


@pytest.mark.parametrize(
    ("prefix", "device", "words"),
    [
        ("AMA", "/dev/ttyACM1", "its id AMA123 begins with OT_SMOOTHIE_ID=AMA"),
        ("Opentrons_", "/dev/ttyACM1", "/dev/ttyACM1"),
        ("ttyACM", "/dev/ttyACM0", "/dev/ttyACM0"),
        ("MA1", None, "no id begins with OT_SMOOTHIE_ID=MA1. There is /dev/ttyACM0 (X, ttyACM0)"),
        ("", None, "OT_SMOOTHIE_ID is not set"),
    ],
)
def test_the_port_whose_id_begins_so(prefix: str, device: str | None, words: str) -> None:
    port = part("serial_port").Port
    ports = [
        port("/dev/ttyACM1", ("AMA123", "usb-Opentrons_x", "Opentrons_x", "ttyACM1")),
        port("/dev/ttyACM0", ("X", "ttyACM0")),
    ]
    choice = part("serial_port").choose(ports, prefix)
    assert choice.device == device
    assert words in choice.reason


def test_no_port_at_all() -> None:
    choice = part("serial_port").choose([], "AMA")
    assert choice.reason == "no id begins with OT_SMOOTHIE_ID=AMA. There is no serial port here."


@pytest.mark.parametrize("value", ["x", "0", "70000", "nan"])
def test_a_port_that_is_none(value: str) -> None:
    with pytest.raises(part("settings").SettingsError, match=f"PORT='{value}'"):
        part("settings").from_environment({"PORT": value})


# The package has no wheel for every machine that runs these tests, and 100 MB: of it, here stands
# the one function that is called.
STAND_IN = """
import os, time
def simulate(file, name):
    text = file.read().decode()
    exec(text)
    return [{"level": 0, "payload": {"text": name}, "logs": []}], None
"""
DRIVER = """
import json, sys
from opentrons_service.simulation import ProtocolError, Simulator, TooLongError
answers = []
simulator = Simulator(1)
simulator.warm_up()
for text in sys.argv[1:]:
    try:
        answers.append(simulator.simulate(text.encode(), "p.py").runlog)
    except (ProtocolError, TooLongError) as error:
        answers.append([getattr(error, "kind", "TooLong"), str(error)])
print(json.dumps(answers))
"""


def test_each_simulation_has_a_process_that_can_be_killed(tmp_path: Path) -> None:
    (tmp_path / "opentrons").mkdir()
    (tmp_path / "opentrons" / "__init__.py").touch()
    (tmp_path / "opentrons" / "simulate.py").write_text(STAND_IN)
    protocols = ["pass", "while True: pass", "os._exit(3)", "raise ValueError('no')", "exit(4)"]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *protocols],
        env={"PYTHONPATH": f"{EXAMPLE}:{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert json.loads(done.stdout) == [
        [{"level": 0, "text": "p.py", "logs": []}],
        ["TooLong", "ended after 1 s: it may never have ended"],
        ["Ended", "its process ended: 3"],
        ["ValueError", "ValueError: no"],
        ["SystemExit", "SystemExit: 4"],
    ]

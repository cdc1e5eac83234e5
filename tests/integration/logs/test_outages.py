"""What holds while JetStream or the service itself goes away and comes back."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

# How long an answer may take on a busy machine, in seconds.
PATIENCE = 60.0


def body(number: int) -> bytes:
    line = {"timestamp": 1_790_000_000_000 + number, "message": str(number), "id": f"n{number}"}
    return json.dumps(line).encode() + b"\n"


class Sender(threading.Thread):
    """A device: sends numbered lines in small requests and repeats what was not confirmed."""

    def __init__(self, service: Any, device: Any) -> None:
        super().__init__()
        self._url = f"{service.url}/device/v2/{device.uuid}/log-stream"
        self._headers = {"Authorization": device.write}
        self.confirmed = 0
        self.refused: list[int] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            wanted = b"".join(body(self.confirmed + n) for n in range(1, 11))
            try:
                answer = httpx2.post(
                    self._url, content=wanted, headers=self._headers, timeout=PATIENCE
                )
            except httpx2.TransportError:
                self.refused.append(0)
                time.sleep(0.2)
                continue
            if answer.status_code == 201:
                self.confirmed += 10
                time.sleep(0.02)
            else:
                assert answer.status_code == 503
                self.refused.append(answer.status_code)
                time.sleep(0.2)

    def wait_for(self, more: int, wait_until: Any) -> None:
        goal = self.confirmed + more
        wait_until(lambda: self.confirmed >= goal or not self.is_alive(), 60)
        assert self.is_alive()


def messages(service: Any, device: Any) -> list[int]:
    url = f"{service.url}/device/v2/{device.uuid}/logs"
    headers = {"Authorization": device.read}
    answer = httpx2.get(url, params={"count": "all"}, headers=headers, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return [int(line["message"]) for line in answer.json()]


class Follower(threading.Thread):
    """Reads all that comes on one connection, until the connection ends."""

    def __init__(self, service: Any, device: Any) -> None:
        super().__init__(daemon=True)
        self._url = f"{service.url}/device/v2/{device.uuid}/logs"
        self._headers = {"Authorization": device.read}
        self.seen: list[int] = []

    def run(self) -> None:
        query: dict[str, str | int] = {"stream": 1, "count": "all"}
        with (
            contextlib.suppress(httpx2.TransportError),
            httpx2.stream(
                "GET", self._url, params=query, headers=self._headers, timeout=60
            ) as answer,
        ):
            for text in answer.iter_lines():
                if text:
                    self.seen.append(int(json.loads(text)["message"]))


@pytest.fixture
def wait_until() -> Any:
    def wait(condition: Any, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"not in {timeout} s"
            time.sleep(0.05)

    return wait


def test_jetstream_dies_and_nothing_is_lost_doubled_or_out_of_order(
    service: Any, nats: Any, device: Any, wait_until: Any
) -> None:
    sender = Sender(service, device)
    sender.start()
    follower = Follower(service, device)
    try:
        sender.wait_for(40, wait_until)
        follower.start()
        wait_until(lambda: len(follower.seen) >= 40)
        nats.container.kill()
        wait_until(lambda: 503 in sender.refused)
        assert httpx2.get(f"{service.url}/healthy", timeout=PATIENCE).status_code == 503
        assert httpx2.get(f"{service.url}/ping", timeout=PATIENCE).text == "OK"
        nats.container.start()
        sender.wait_for(40, wait_until)
    finally:
        sender.stopping.set()
        sender.join()
    expected = list(range(1, sender.confirmed + 1))
    found = messages(service, device)
    assert found == expected
    wait_until(lambda: len(follower.seen) >= len(expected))
    assert follower.seen == expected


def test_the_service_dies_and_nothing_is_lost_doubled_or_out_of_order(
    service: Any, device: Any, wait_until: Any
) -> None:
    sender = Sender(service, device)
    sender.start()
    try:
        sender.wait_for(40, wait_until)
        service.stop(signal.SIGKILL)
        wait_until(lambda: sender.refused)
        service.start()
        sender.wait_for(40, wait_until)
    finally:
        sender.stopping.set()
        sender.join()
    found = messages(service, device)
    # Lines of the request that was under way may be there before they are confirmed.
    assert found[: sender.confirmed] == list(range(1, sender.confirmed + 1))
    assert found == sorted(set(found))


def test_a_revoked_reader_is_cut_off_within_half_a_minute(
    service: Any, device: Any, authority: Any
) -> None:
    follower = Follower(service, device)
    follower.start()
    time.sleep(0.5)
    del authority.keys[device.read]
    follower.join(30)
    assert not follower.is_alive()


def test_it_stops_at_once_with_readers_connected(service: Any, device: Any) -> None:
    follower = Follower(service, device)
    follower.start()
    time.sleep(0.5)
    assert service.stop() in (0, -signal.SIGTERM)  # uvicorn ends by the signal that it got
    follower.join(60)
    assert not follower.is_alive()
    assert "Traceback" not in service.output()
    service.start()


def test_a_wrong_configuration_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "logs.json").write_text('{"fleet": "devbots"}')
    ended = subprocess.run(
        [sys.executable, "-m", "gantry.logs"],
        env={"GANTRY_CONFIG": str(tmp_path / "logs.json")},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ended.returncode == 1
    assert "service_key: Field required" in ended.stderr
    assert ended.stderr.count("\n") == 1

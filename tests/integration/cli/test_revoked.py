"""Streams of logs end when what they were opened with does: a true api, a true log service."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest


class Follower(threading.Thread):
    """Somebody who follows a device's log until the service ends it."""

    def __init__(self, logs: Any, device: Any, credential: str) -> None:
        super().__init__(daemon=True)
        self.lines: list[str] = []
        self.began = threading.Event()
        self._url = f"{logs.url}/device/v2/{device.uuid}/logs?stream=1"
        self._headers = {"Authorization": f"Bearer {credential}"}
        self.start()
        assert self.began.wait(20)

    def run(self) -> None:
        with httpx2.stream("GET", self._url, headers=self._headers, timeout=60) as answer:
            self.began.set()
            self.lines += [line for line in answer.iter_lines() if line]

    def ended(self, seconds: float = 5.0) -> bool:
        self.join(seconds)
        return not self.is_alive()


class Sender(threading.Thread):
    """A device's log stream that says one line and stays open."""

    def __init__(self, logs: Any, device: Any, key: str) -> None:
        super().__init__(daemon=True)
        self.status = 0
        self._over = threading.Event()
        self._url = f"{logs.url}/device/v2/{device.uuid}/log-stream"
        self._headers = {"Authorization": f"Bearer {key}"}
        self.start()
        time.sleep(1.0)
        assert self.is_alive()

    def _lines(self) -> Iterator[bytes]:
        yield json.dumps({"timestamp": 1_790_000_000_000, "message": "x"}).encode() + b"\n"
        self._over.wait(60)

    def run(self) -> None:
        with httpx2.Client(timeout=60) as client:
            request = client.build_request(
                "POST", self._url, headers=self._headers, content=self._lines()
            )
            self.status = client.send(request).status_code

    def ended(self, seconds: float = 5.0) -> int:
        """The status that the service ended it with; a client hears it when it sends on."""
        time.sleep(seconds)
        self._over.set()
        self.join(10)
        return self.status


@pytest.fixture
def spare(operator: Any, device: Any) -> tuple[str, str]:
    """One more key of the device, and its id."""
    key = operator.run("api-key", "create", "spare", "--device", device.name).strip()
    (row,) = (each for each in operator.json("api-key", "list", "--all") if each["name"] == "spare")
    return key, str(row["id"])


def test_a_revoked_key_ends_the_streams_of_its_reader_and_its_writer(
    operator: Any, logs: Any, device: Any, spare: tuple[str, str]
) -> None:
    key = operator.run("api-key", "create", "reader").strip()
    (row,) = operator.json("api-key", "list")
    revoked, other = Follower(logs, device, key), Follower(logs, device, spare[0])
    operator.run("api-key", "rm", str(row["id"]))
    assert revoked.ended()
    assert not other.ended(1)
    sender = Sender(logs, device, spare[0])
    operator.run("api-key", "rm", spare[1])
    assert other.ended()
    assert sender.ended(2) == 401


def test_a_stream_ends_when_its_key_s_time_is_over(
    robots: Any, operator: Any, logs: Any, device: Any
) -> None:
    until = (datetime.now(UTC) + timedelta(seconds=4)).isoformat()
    body = {"name": "short", "expiryDate": until}
    follower = Follower(logs, device, robots.user.post("/api-key/user/full", json=body).json())
    assert not follower.ended(1)
    assert follower.ended(6)


def test_a_session_that_ends_ends_its_streams(operator: Any, logs: Any, device: Any) -> None:
    token = json.loads((operator.home / "gantry/devbots/session.json").read_text())["token"]
    follower = Follower(logs, device, token)
    change = ("account", "password", "--password-file", "-", "--new-password-file", "-")
    operator.run(*change, stdin="long enough\nquite another\n")
    assert follower.ended()

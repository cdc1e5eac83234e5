"""A delta server as a process of its own, and what tests do with it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from gantry.contracts.deltas import DELTA_PATH, DeltaAnswer, DeltaPair, DeltaState

SOURCES = Path(__file__).parents[3] / "src"


@dataclass
class Server:
    """A delta server; `data` in its configuration outlives it."""

    config: dict[str, Any]
    folder: Path
    process: subprocess.Popen[bytes] | None = None
    clients: list[httpx2.Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.config['listen_port']}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def deltas(self) -> list[Path]:
        """Files of the storage."""
        return sorted((Path(self.config["data"]) / "deltas").glob("*"))

    def start(self) -> None:
        file = self.folder / "deltas.json"
        file.write_text(json.dumps(self.config))
        environment = {**os.environ, "GANTRY_CONFIG": str(file), "PYTHONPATH": str(SOURCES)}
        environment["PYTHONUNBUFFERED"] = "1"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gantry.deltas.server"],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
        self.wait(lambda: self._answers())

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/healthy").status_code == 200
        return False

    def wait(self, condition: Any, seconds: float = 60) -> Any:
        """Until it holds; its value."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < deadline, f"not in {seconds} s:\n{self.log}"
            time.sleep(0.05)
        return value

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(30)
        for each in self.clients:
            each.close()
        self.clients.clear()

    def client(self, token: str | None = None) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        made = httpx2.Client(base_url=self.url, headers=headers, timeout=60)
        self.clients.append(made)
        return made

    def metric(self, name: str) -> float:
        """One figure of /metrics, by its whole name with labels."""
        for line in httpx2.get(f"{self.url}/metrics").text.splitlines():
            found, _, value = line.rpartition(" ")
            if found == name:
                return float(value)
        raise AssertionError(f"no {name}")

    def made(self) -> float:
        """How many deltas this process has made."""
        return self.metric('gantry_deltas_made_total{outcome="made"}')


@dataclass(frozen=True)
class Asker:
    """Somebody with a token, at a server."""

    client: httpx2.Client

    def ask(self, src: Sequence[str], dest: str, wait: int = 0) -> httpx2.Response:
        query = DeltaPair(tuple(src), dest).query(wait=wait)
        return self.client.get(f"{DELTA_PATH}?{query}")

    def settled(self, src: Sequence[str], dest: str) -> DeltaAnswer:
        """The answer once it is not `working` any more."""
        while True:
            got = self.ask(src, dest, wait=30)
            assert got.status_code in (200, 202), got.text
            answer = DeltaAnswer.from_json(got.json())
            if answer.state is not DeltaState.WORKING:
                return answer

    def fetch(self, answer: DeltaAnswer, **headers: str) -> httpx2.Response:
        assert answer.url
        return self.client.get(answer.url, headers=headers)

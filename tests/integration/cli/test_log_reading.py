"""`gantry logs` before the real log service."""

import json
import signal
import threading
import time
from typing import Any

import httpx2


def messages(output: str) -> list[str]:
    return [json.loads(line)["message"] for line in output.splitlines()]


def numbered(first: int, last: int) -> list[str]:
    return [f"line {number}" for number in range(first, last + 1)]


def read(process: Any, count: int) -> list[str]:
    return [json.loads(process.stdout.readline())["message"] for _ in range(count)]


def finish(process: Any) -> str:
    """Ctrl-C; what was said on stderr."""
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=15)
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return str(said)


def test_the_last_lines_in_order(operator: Any, device: Any) -> None:
    device.say(130)
    assert messages(operator.run("logs", device.name, "--json")) == numbered(31, 130)
    assert messages(operator.run("logs", device.name, "-n", "5", "--json")) == numbered(126, 130)
    plain = operator.run("logs", device.name, "-n", "1")
    assert plain.endswith(" [main] line 130\n")
    assert operator.run("logs", device.name, "-n", "0") == ""


def test_one_service(operator: Any, device: Any) -> None:
    device.say(10, "main")
    device.say(300, "noisy")
    output = operator.run("logs", device.name, "--service", "main", "-n", "4", "--json")
    assert messages(output) == numbered(7, 10)
    assert operator.run("logs", device.name, "-s", "none") == ""


def test_since(operator: Any, device: Any) -> None:
    now = int(time.time() * 1000)
    device.say(5, timestamp=now - 7_200_000)
    device.say(5, timestamp=now)
    assert messages(operator.run("logs", device.name, "--since", "1h", "--json")) == numbered(6, 10)
    output = operator.run("logs", device.name, "--since", "3h", "-n", "7", "--json")
    assert messages(output) == numbered(4, 10)


def test_follow_goes_on_over_a_dead_service_without_loss_or_doubles(
    operator: Any, device: Any, logs: Any
) -> None:
    device.say(20)
    process = operator.start("logs", device.name, "-f", "-n", "10", "--json")
    try:
        assert read(process, 10) == numbered(11, 20)
        device.say(10)
        assert read(process, 10) == numbered(21, 30)
        logs.stop(signal.SIGKILL)
        time.sleep(0.5)
        logs.start()
        device.say(50)
        assert read(process, 50) == numbered(31, 80)
    finally:
        said = finish(process)
    assert said.count("trying again") == 1
    assert said.count("connected again") == 1


def test_lines_that_come_while_it_begins(operator: Any, device: Any) -> None:
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            try:
                device.say(3)
            except httpx2.TransportError:
                return

    device.say(5)
    writer = threading.Thread(target=write)
    writer.start()
    process = operator.start("logs", device.name, "-f", "-n", "2", "--json")
    try:
        found = read(process, 100)
    finally:
        stop.set()
        writer.join()
        finish(process)
    first = int(found[0].removeprefix("line "))
    assert found == numbered(first, first + 99)


def test_follow_an_empty_log(operator: Any, device: Any) -> None:
    process = operator.start("logs", device.name, "-f", "--json")
    time.sleep(1)
    device.say(3)
    try:
        assert read(process, 3) == numbered(1, 3)
    finally:
        finish(process)

"""Commands end with their client."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
from gantry.git import watch
keep = os.open("/dev/null", os.O_RDONLY)
end = watch.run(sys.argv[1:], dict(os.environ), keep)
open(os.environ["RESULT"], "w").write(f"{end.cause} {end.code}")
"""


def start(tmp_path: Path, *command: str) -> subprocess.Popen[bytes]:
    source = Path(__file__).parents[3] / "src"
    environment = {**os.environ, "RESULT": str(tmp_path / "result"), "PYTHONPATH": str(source)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *command],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def result(tmp_path: Path, process: subprocess.Popen[bytes]) -> str:
    process.wait(10)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    return (tmp_path / "result").read_text()


def is_running(pid_file: Path) -> bool:
    try:
        status = Path(f"/proc/{int(pid_file.read_text())}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in status  # Not every machine's first process collects the dead.


@pytest.mark.parametrize(("command", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("true", 0)])
def test_the_exit_code_is_passed_on(tmp_path: Path, command: str, code: int) -> None:
    process = start(tmp_path, "sh", "-c", command)
    assert result(tmp_path, process) == f"exited {code}"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_client_that_goes_ends_the_whole_group(tmp_path: Path, stream: str) -> None:
    pid_file = tmp_path / "pid"
    script = f"sleep 100 & echo $! >{pid_file}.new; mv {pid_file}.new {pid_file}; wait"
    process = start(tmp_path, "sh", "-c", script)
    while not pid_file.exists():
        time.sleep(0.02)
    assert is_running(pid_file)
    getattr(process, stream).close()
    assert result(tmp_path, process) == "client gone 1"
    # Long before it would end by itself.
    deadline = time.monotonic() + 30
    while is_running(pid_file):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_that_will_not_end_is_killed(tmp_path: Path) -> None:
    script = f"trap '' TERM; touch {tmp_path / 'up'}; while :; do sleep 0.1; done"
    process = start(tmp_path, "sh", "-c", script)
    while not (tmp_path / "up").exists():
        time.sleep(0.02)
    assert process.stdout is not None
    process.stdout.close()
    assert result(tmp_path, process) == "client gone 1"


def test_the_end_of_the_service_ends_it(tmp_path: Path) -> None:
    process = start(tmp_path, "sh", "-c", f"touch {tmp_path / 'up'}; sleep 100")
    while not (tmp_path / "up").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert result(tmp_path, process) == "stopped 1"

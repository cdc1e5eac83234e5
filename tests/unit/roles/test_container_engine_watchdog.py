"""The engine's watchdog. The real engine is stopped in molecule/container_engine; here, what it
answers and how time passes are the test's: an hour is too long to wait for."""

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/container_engine/files/engine_watchdog.sh"
# Each turn begins with a sleep; after the last one there is no more time.
SLEEP = """#!/bin/sh
turn=$(($(cat "$STATE/turn") + 1))
echo $turn > "$STATE/turn"
[ $turn -le "$(wc -w < "$STATE/answers")" ]
"""
# The nth word of `answers` says who answers in the nth turn.
ANSWER = """#!/bin/sh
answer=$(cut -d ' ' -f "$(cat "$STATE/turn")" "$STATE/answers")
case "$answer" in *{letter}*) exit 1 ;; esac
"""
SYSTEMCTL = """#!/bin/sh
if [ "$1" = is-active ]; then
    answer=$(cut -d ' ' -f "$(cat "$STATE/turn")" "$STATE/answers")
    [ "$answer" != starting ]
    exit
fi
echo "$*" >> "$STATE/asked"
"""


@pytest.fixture
def watch(tmp_path: Path) -> "Watch":
    return Watch(tmp_path)


class Watch:
    """Runs the program over turns: `ok`, `D` (docker does not answer), `C` (containerd does not),
    `starting`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = {
            "sleep": SLEEP,
            "docker": ANSWER.format(letter="D"),
            "ctr": ANSWER.format(letter="C"),
            "systemctl": SYSTEMCTL,
        }
        (folder / "bin").mkdir()
        for name, text in programs.items():
            (folder / "bin" / name).write_text(text)
            (folder / "bin" / name).chmod(0o755)

    def __call__(self, *answers: str, restarts: int = 3, failures: int = 2) -> str:
        (self.folder / "turn").write_text("0")
        (self.folder / "answers").write_text(" ".join(answers))
        environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "STATE": str(self.folder),
            "INTERVAL": "120",
            "TIMEOUT": "5",
            "FAILURES": str(failures),
            "RESTARTS": str(restarts),
        }
        done = subprocess.run(
            [str(PROGRAM)], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stderr == ""
        return done.stdout

    @property
    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []


def test_an_engine_that_answers_is_left_alone_without_a_word(watch: Watch) -> None:
    assert watch("ok", "ok", "ok") == ""
    assert watch.asked == []


def test_one_answer_may_be_missed(watch: Watch) -> None:
    assert watch("ok", "D", "ok", "D", "ok") == ""
    assert watch.asked == []


def test_one_that_does_not_answer_is_started_anew(watch: Watch) -> None:
    said = watch("D", "D", "ok")
    assert said.startswith("docker.service has not answered 2 times in a row")
    assert watch.asked == ["restart docker.service"]


def test_it_is_containerd_where_that_does_not_answer(watch: Watch) -> None:
    watch("DC", "DC")
    assert watch.asked == ["restart containerd.service"]


def test_one_that_is_starting_is_given_its_time(watch: Watch) -> None:
    watch("D", "starting", "starting", "D", "ok")
    assert watch.asked == []


def test_it_gives_up_after_so_many_and_says_so_once(watch: Watch) -> None:
    said = watch(*["D"] * 12, restarts=2).splitlines()
    assert watch.asked == ["restart docker.service"] * 2
    assert [each for each in said if "waiting" in each] == [
        "docker.service does not answer, and was started anew 2 times within an hour: waiting"
    ]


def test_it_says_so_again_after_the_engine_was_well(watch: Watch) -> None:
    said = watch("D", "D", "D", "D", "ok", "D", "D", restarts=1)
    assert said.count("waiting") == 2
    assert watch.asked == ["restart docker.service"]


def test_without_its_settings_it_does_not_begin() -> None:
    done = subprocess.run([str(PROGRAM)], env={"PATH": os.environ["PATH"]}, capture_output=True)
    assert done.returncode != 0

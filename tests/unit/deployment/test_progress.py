"""Steps speak: at their begin, while nothing else is said, and at their end."""

import re
import time

import pytest

from gantry.deployment.progress import duration, step


def test_a_silent_step_is_heard_and_a_talkative_one_not_interrupted() -> None:
    said: list[str] = []
    with step("thinking", said.append, heartbeat=0.2):
        time.sleep(0.5)
    assert said[0] == "==> thinking"
    assert len([line for line in said if "still at it" in line]) >= 1
    assert re.match(r"    done in [0-9.]+ s", said[-1])
    said.clear()
    with step("talking", said.append, heartbeat=5.0) as say:
        for number in range(5):
            say(str(number))
            time.sleep(0.1)
    assert not [line for line in said if "still at it" in line]


def test_a_step_that_fails_says_so() -> None:
    said: list[str] = []
    with pytest.raises(RuntimeError), step("breaking", said.append):
        raise RuntimeError
    assert re.match(r"    failed after [0-9.]+ s: breaking", said[-1])


def test_durations() -> None:
    assert [duration(each) for each in (0.04, 59.9, 187.2)] == ["0.0 s", "59.9 s", "3 min 07 s"]

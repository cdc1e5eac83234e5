"""Steps speak: at their begin, while nothing else is said, and at their end."""

import time

import pytest

from gantry.deployment.progress import duration, step


def test_a_silent_step_is_heard_and_a_talkative_one_not_interrupted() -> None:
    said: list[str] = []
    with step("thinking", said.append, heartbeat=0.2):
        time.sleep(0.5)
    assert said[0] == "==> thinking"
    assert len([line for line in said if "still at it" in line]) == 2
    assert said[-1].startswith("    done in 0.5 s")
    said.clear()
    with step("talking", said.append, heartbeat=0.4) as say:
        for number in range(5):
            say(str(number))
            time.sleep(0.1)
    assert not [line for line in said if "still at it" in line]


def test_a_step_that_fails_says_so() -> None:
    said: list[str] = []
    with pytest.raises(RuntimeError), step("breaking", said.append):
        raise RuntimeError
    assert said[-1].startswith("    failed after 0.0 s")


def test_durations() -> None:
    assert [duration(each) for each in (0.04, 59.9, 187.2)] == ["0.0 s", "59.9 s", "3 min 07 s"]

"""The board's LED, by which somebody finds the device (Documentation/leds/leds-class.rst)."""

import contextlib
import fcntl
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from gantry_supervisor import settings

LEDS = Path(os.environ.get("GANTRY_LEDS", "/sys/class/leds"))
# The green one first, under the names that kernels of Raspberry Pis have had for it; the red one
# where there is no other.
NAMES = ("ACT", "led0", "act", "PWR", "led1", "pwr")
SHORT = 0.25
PAUSE = 2.0


class LedError(Exception):
    """The LED cannot be switched; the message says why."""


def find() -> Path | None:
    """The folder of the board's LED; None where it has none."""
    return next((LEDS / name for name in NAMES if (LEDS / name / "brightness").exists()), None)


@contextlib.contextmanager
def _taken(led: Path) -> Iterator[Callable[[bool], None] | None]:
    """Have the LED to oneself, and give it back to what drove it; None where somebody has it."""
    settings.RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (settings.RUN / "led.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        try:
            # `none mmc0 [actpwr] default-on`: the one in brackets drives it now.
            found = re.search(r"\[([^\]]+)\]", (led / "trigger").read_text())
            before = found[1] if found else "none"
            bright = (led / "max_brightness").read_text().strip()
            (led / "trigger").write_text("none")
            try:
                yield lambda on: _set(led, bright if on else "0")
            finally:
                _set(led, "0")
                (led / "trigger").write_text(before)
        except OSError as error:
            raise LedError(f"{led}: {error.strerror}") from error


def _set(led: Path, value: str) -> None:
    (led / "brightness").write_text(value)


def blink(led: Path, wait: Callable[[float], bool]) -> None:
    """On and off in turn. `wait` takes seconds, and says whether to go on."""
    with _taken(led) as switch:
        on = True
        while switch:
            switch(on)
            if not wait(SHORT):
                return
            on = not on


def signal(led: Path, times: int, wait: Callable[[float], bool]) -> None:
    """So many flashes and a pause, again and again."""
    while True:
        with _taken(led) as switch:
            while switch:
                for _ in range(times):
                    switch(True)
                    if not wait(SHORT):
                        return
                    switch(False)
                    if not wait(SHORT):
                        return
                if not wait(PAUSE):
                    return
        if not wait(PAUSE):  # somebody blinks to be found, which goes before
            return

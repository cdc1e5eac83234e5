"""Whether the board has had too little voltage, as the Raspberry Pi's firmware says.

Its driver (drivers/hwmon/raspberrypi-hwmon.c) looks every 2 s, and wakes who waits for its file:
so that a moment's lack is not missed, and looking costs nothing.
"""

import asyncio
import os
import select
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_HWMON = Path("/sys/class/hwmon")
_DRIVER = "rpi_volt"
_ALARM = "in0_lcrit_alarm"


def find_alarm(hwmon: Path = _HWMON) -> Path | None:
    """The firmware's alarm; None on boards that have none."""
    for name in sorted(hwmon.glob("hwmon*/name")):
        with suppress(OSError):
            alarm = name.with_name(_ALARM)
            if name.read_text().strip() == _DRIVER and alarm.exists():
                return alarm
    return None


class FileWatch:
    """Hears when the kernel changes one of its files (poll(2): POLLPRI). `changed` is given the
    file's content, once at the beginning too. For the running event loop."""

    def __init__(self, path: Path, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._file = os.open(path, os.O_RDONLY)
        # The event loop waits for readable files only; a set of files to wait for is such a one.
        self._waiting = select.epoll()
        self._waiting.register(self._file, select.EPOLLPRI | select.EPOLLERR | select.EPOLLET)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._waiting.fileno(), self._read)
        self._read()

    def _read(self) -> None:
        self._waiting.poll(0)
        with suppress(OSError):
            self._changed(os.pread(self._file, 4096, 0).decode(errors="replace"))

    def close(self) -> None:
        """Stop."""
        self._loop.remove_reader(self._waiting.fileno())
        self._waiting.close()
        os.close(self._file)


class Undervoltage:
    """Remembers until the supervisor's end that there was too little voltage, as the family tells
    it of the time since the boot. `seen` hears of it the first time."""

    def __init__(self, seen: Callable[[], None]) -> None:
        self._seen = seen
        self._watch: FileWatch | None = None
        self.detected: bool | None = None  # None: the board does not say

    def open(self, alarm: Path | None) -> None:
        """Begin; nothing where there is no alarm."""
        if alarm is not None:
            self.detected = False
            self._watch = FileWatch(alarm, self._heard)

    def _heard(self, content: str) -> None:
        if content.strip() == "1" and not self.detected:
            self.detected = True
            self._seen()

    def close(self) -> None:
        """Stop."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None

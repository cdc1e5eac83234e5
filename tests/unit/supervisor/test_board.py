"""What the board says of itself and its network: voltage, reachability, the disk's device."""

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor.config import ConfigFile
from gantry.supervisor.host.connectivity import Connectivity, reachable
from gantry.supervisor.host.device import DeviceHost
from gantry.supervisor.host.door import Door
from gantry.supervisor.host.undervoltage import FileWatch, Undervoltage, find_alarm
from gantry.supervisor.metrics import Metrics, changed_enough
from tests.host_door import HostDoor


@pytest.fixture
def alarm(tmp_path: Path) -> Path:
    """The driver's files, as it names them; what they say is the test's."""
    for number, name in enumerate(("cpu_thermal", "rpi_volt")):
        folder = tmp_path / f"hwmon{number}"
        folder.mkdir()
        (folder / "name").write_text(f"{name}\n")
        (folder / "in0_lcrit_alarm").write_text("0\n")
    return tmp_path / "hwmon1/in0_lcrit_alarm"


def test_the_firmwares_alarm_is_found_by_its_drivers_name(alarm: Path, tmp_path: Path) -> None:
    assert find_alarm(tmp_path) == alarm
    assert find_alarm(tmp_path / "none") is None


def test_a_file_of_the_kernel_is_heard_when_it_changes(tmp_path: Path) -> None:
    """/proc/self/mounts changes as a driver's file does: poll(2) says so (proc(5))."""
    heard: list[str] = []
    (tmp_path / "here").mkdir()

    async def mount() -> None:
        news = asyncio.Event()

        def changed(content: str) -> None:
            heard.append(content)
            news.set()

        watch = FileWatch(Path("/proc/self/mounts"), changed)
        try:
            await asyncio.sleep(0.5)
            news.clear()
            quiet = len(heard)
            mounting = ["mount", "-t", "tmpfs", "none", str(tmp_path / "here")]
            await asyncio.to_thread(subprocess.run, mounting, check=True)
            async with asyncio.timeout(60):
                await news.wait()
            assert len(heard) > quiet
        finally:
            watch.close()

    try:
        asyncio.run(mount())
    finally:
        subprocess.run(["umount", tmp_path / "here"], check=False)
    # A mount table is longer than a look at it; that there was news is what counts.
    assert len(heard) >= 2


def test_undervoltage_is_told_once_and_stays(alarm: Path) -> None:
    told: list[bool] = []
    known: list[bool | None] = []

    async def look() -> None:
        watch = Undervoltage(lambda: told.append(True))
        watch.open(None)
        known.append(watch.detected)
        with pytest.raises(PermissionError):  # epoll takes no files of a disk: only the kernel's
            watch.open(alarm)
        for content in ("0\n", "1\n", "0\n", "1\n"):
            watch._heard(content)
            known.append(watch.detected)

    asyncio.run(look())
    assert (known, told) == ([None, False, True, True, True], [True])


def wait_for(check: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


@asynccontextmanager
async def listening(port: int) -> Any:
    server = await asyncio.start_server(lambda _r, writer: writer.close(), "127.0.0.1", port)
    async with server:
        yield


def test_reachable_is_who_takes_a_connection() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def look() -> list[bool]:
        url = f"https://127.0.0.1:{port}"
        found = [await reachable(url)]
        async with listening(port):
            found.append(await reachable(url))
        return [*found, await reachable("https://no-such-host.invalid")]

    assert asyncio.run(look()) == [False, True, False]


@pytest.mark.parametrize("enabled", [True, False])
def test_the_way_back_is_noticed_and_the_led_tells_meanwhile(tmp_path: Path, enabled: bool) -> None:
    door = HostDoor(tmp_path)
    led = door.led()
    seconds = 60.0 if enabled else 2.0
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def given_back() -> bool:
        return "actpwr" in (led / "trigger").read_text() and not door.busy

    async def live() -> bool:
        away, back = asyncio.Event(), asyncio.Event()
        host = DeviceHost(Door(door.path), ConfigFile(tmp_path / "config.json"))
        url = f"http://127.0.0.1:{port}"
        looking = asyncio.create_task(
            Connectivity(url, host, away, lambda: enabled, back.set, every=0.2).run()
        )
        away.set()
        try:
            async with asyncio.timeout(2 * seconds):
                await asyncio.to_thread(
                    wait_for, lambda: "255" in (led / "brightness").read_text(), seconds
                )
                assert not back.is_set()
                async with listening(port):
                    await back.wait()
                away.clear()
                await asyncio.to_thread(wait_for, given_back, seconds)
            return True
        except TimeoutError:
            return False
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    try:
        assert asyncio.run(live()) is enabled
    finally:
        door.close()


def test_figures_name_the_disks_device_and_are_taken_back(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    found = metrics.read()
    device = subprocess.run(
        ["findmnt", "-no", "SOURCE", "-T", tmp_path], check=True, capture_output=True, text=True
    ).stdout.strip()
    named = device.partition("[")[0]
    assert found.get("storage_block_device") == (named if named.startswith("/dev/") else None)
    metrics.enabled = False
    taken_back = metrics.read()
    assert set(taken_back.values()) == {None}
    assert set(found) <= set(taken_back)
    assert changed_enough(taken_back, found)

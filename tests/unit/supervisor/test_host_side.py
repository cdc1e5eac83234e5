"""The loop that holds a host at its variables: a real door, store and boot partition; reboots are
what the host's program was told, and a new boot is another boot id."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor.config import ConfigFile
from gantry.supervisor.host.boot import BootPartition
from gantry.supervisor.host.device import DeviceHost
from gantry.supervisor.host.door import Door
from gantry.supervisor.host.side import HostSide
from gantry.supervisor.journal import Journal
from gantry.supervisor.locks import LockedError
from gantry.supervisor.store import Store
from tests.host_door import HostDoor

REBOOT = "--no-block reboot"
CONFIG_TXT = "dtparam=audio=on\ngpu_mem=16\n"


class Bench:
    """A device's host side, boot after boot."""

    def __init__(self, home: Path, door: HostDoor) -> None:
        self.boot_folder = home / "boot"
        self.boot_folder.mkdir()
        (self.boot_folder / "config.json").write_text('{"uuid": "abc"}')
        (self.boot_folder / "config.txt").write_text(CONFIG_TXT)
        self.door = door
        self.said: list[str] = []
        self.boots = 1
        self.locked = False
        self.has_local_mode = True
        self._store = home / "database.sqlite"

    def config_txt(self) -> str:
        return (self.boot_folder / "config.txt").read_text()

    @asynccontextmanager
    async def _hold(self, force: bool) -> AsyncIterator[None]:
        if self.locked and not force:
            raise LockedError(())
        yield

    async def _live(self, config: dict[str, str], until: Callable[[], bool]) -> None:
        store = Store(self._store)
        await store.open()
        file = ConfigFile(self.boot_folder / "config.json")
        side = HostSide(
            DeviceHost(Door(self.door.path), file),
            BootPartition(file),
            store,
            Journal(lambda text, _service: self.said.append(text)),
            self._hold,
            lambda: None,
            "raspberrypi3",
            self.has_local_mode,
            lambda: f"boot {self.boots}",
        )
        side.follow(config)
        living = asyncio.create_task(side.run())
        try:
            async with asyncio.timeout(60):
                while not until():
                    await asyncio.wait({living}, timeout=0.05)
                    if living.done():
                        living.result()
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            await store.close()

    def live(self, config: dict[str, str], until: Callable[[], bool]) -> None:
        """Run a supervisor's host side until something is so, and take its power."""
        asyncio.run(self._live(config, until))

    def reboots(self) -> int:
        return self.door.calls.count(REBOOT)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    door = HostDoor(tmp_path / "host")
    yield Bench(tmp_path, door)
    door.close()


GPU = {"RESIN_HOST_CONFIG_gpu_mem": "128"}


def test_a_host_that_restarted_is_not_restarted_again(bench: Bench) -> None:
    bench.live(GPU, lambda: bench.reboots() == 1)
    bench.boots += 1
    calls = len(bench.door.calls)
    bench.live(
        {**GPU, "RESIN_SUPERVISOR_VPN_CONTROL": "false"}, lambda: len(bench.door.calls) > calls
    )
    assert bench.reboots() == 1


def test_a_host_without_local_mode_is_not_frozen_by_its_variable(bench: Bench) -> None:
    bench.has_local_mode = False
    config = {**GPU, "BALENA_SUPERVISOR_LOCAL_MODE": "1"}
    bench.live(config, lambda: bench.reboots() == 1)
    assert "gpu_mem=128" in bench.config_txt()


def test_settings_that_change_nothing_need_no_restart(bench: Bench) -> None:
    bench.live({"RESIN_HOST_CONFIG_gpu_mem": "16"}, lambda: bench.said != [])
    assert bench.said == ["Host: config.txt changed: nothing that has an effect"]
    assert bench.reboots() == 0


def test_a_restart_that_is_needed_is_not_forgotten(bench: Bench) -> None:
    bench.locked = True
    bench.live(GPU, lambda: any("waits" in each for each in bench.said))
    bench.live(GPU, lambda: sum("waits" in each for each in bench.said) == 2)
    assert bench.reboots() == 0
    bench.locked = False
    bench.live(GPU, lambda: bench.reboots() == 1)


def test_a_restart_by_somebody_else_does_too(bench: Bench) -> None:
    bench.locked = True
    bench.live(GPU, lambda: any("waits" in each for each in bench.said))
    bench.boots += 1
    bench.locked = False
    bench.live(
        {**GPU, "RESIN_SUPERVISOR_PERSISTENT_LOGGING": "1"},
        lambda: any("persistentLogging" in each for each in bench.said),
    )
    assert bench.reboots() == 0


def test_a_file_that_something_else_writes_does_not_restart_the_host_for_ever(bench: Bench) -> None:
    for boot in range(1, 4):
        bench.boots = boot
        bench.live(GPU, lambda boot=boot: bench.reboots() == boot)  # type: ignore[misc]
        (bench.boot_folder / "config.txt").write_text(CONFIG_TXT)
    bench.boots = 4
    bench.live(GPU, lambda: any("not restarted again" in each for each in bench.said))
    assert bench.reboots() == 3
    # Once it stays, that is forgotten, and another setting is another matter.
    bench.boots = 5
    other = {"RESIN_HOST_CONFIG_gpu_mem": "64"}
    bench.live(other, lambda: bench.reboots() == 4)


def test_a_host_that_refuses_is_asked_again_and_again(bench: Bench) -> None:
    bench.door.program("systemctl", "#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    for _ in range(5):  # refusals do not count as restarts
        bench.said.clear()
        bench.live(GPU, lambda: any("Access denied" in each for each in bench.said))
    assert not any("not restarted again" in each for each in bench.said)


def test_services_that_are_to_be_off_are_switched_off_at_each_boot(bench: Bench) -> None:
    off = {"BALENA_HOST_DISCOVERABILITY": "false"}
    stop = "--no-block stop avahi-daemon.socket avahi-daemon.service"
    start = stop.replace("stop", "start")
    bench.live(off, lambda: bench.door.calls.count(stop) == 1)
    bench.boots += 1
    bench.live(off, lambda: bench.door.calls.count(stop) == 2)
    bench.live({}, lambda: bench.door.calls.count(start) == 1)


def test_a_logo_comes_and_goes(bench: Bench) -> None:
    logo = bench.boot_folder / "splash/resin-logo.png"
    logo.parent.mkdir()
    logo.write_bytes(b"theirs")
    for number in (1, 2):
        content = b"\x89PNG\r\n\x1a\n" + bytes([number])
        variable = {"BALENA_HOST_SPLASH_IMAGE": base64.b64encode(content).decode()}
        bench.live(variable, lambda content=content: logo.read_bytes() == content)  # type: ignore[misc]
    bench.live({}, lambda: logo.read_bytes() == b"theirs")
    bench.live({}, lambda: sorted(each.name for each in logo.parent.iterdir()) == [logo.name])
    assert bench.reboots() == 0


def test_a_boot_partition_without_config_txt_is_no_place_to_write_one(bench: Bench) -> None:
    (bench.boot_folder / "config.txt").unlink()
    bench.live(GPU, lambda: any("must be mounted there" in each for each in bench.said))
    assert [each.name for each in bench.boot_folder.iterdir()] == ["config.json"]


def test_what_is_said_is_said_once(bench: Bench) -> None:
    document: dict[str, Any] = json.loads((bench.boot_folder / "config.json").read_text())
    config = {**GPU, "RESIN_SUPERVISOR_SOMETHING": "1", "RESIN_SUPERVISOR_LOG_CONTROL": "perhaps"}
    bench.live(config, lambda: bench.reboots() == 1)
    assert len(bench.said) == len(set(bench.said)) == 4
    assert json.loads((bench.boot_folder / "config.json").read_text()) == document

"""The door to the host, from both sides: the supervisor's client and the host's real program."""

import asyncio
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from gantry.supervisor.config import ConfigFile
from gantry.supervisor.host import (
    HostAwayError,
    HostError,
    HostRequestError,
    JournalQuery,
    journal_query,
)
from gantry.supervisor.host.device import DeviceHost
from gantry.supervisor.host.door import Door
from tests.host_door import HostDoor


@pytest.fixture
def door(tmp_path: Path) -> Iterator[HostDoor]:
    one = HostDoor(tmp_path)
    yield one
    one.close()


@pytest.fixture
def host(door: HostDoor, tmp_path: Path) -> DeviceHost:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/config.json").write_text('{"uuid": "abc", "unknown": {"kept": 1}}')
    return DeviceHost(Door(door.path), ConfigFile(tmp_path / "boot/config.json"))


def wait_for(check: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.02)
    raise AssertionError("not in time")


def test_the_host_is_restarted_and_switched_off(host: DeviceHost, door: HostDoor) -> None:
    asyncio.run(host.reboot())
    asyncio.run(host.shutdown())
    assert door.calls == ["--no-block reboot", "--no-block poweroff"]


def test_what_systemd_says_against_it_is_told(host: DeviceHost, door: HostDoor) -> None:
    door.program("systemctl", "#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    with pytest.raises(HostError, match="refuses reboot: systemctl --no-block reboot: Access"):
        asyncio.run(host.reboot())


def test_without_a_door_it_says_who_opens_it(tmp_path: Path) -> None:
    host = DeviceHost(Door(tmp_path / "none"), ConfigFile(tmp_path / "config.json"))
    with pytest.raises(HostAwayError, match=r"is shut \(No such file.*gantry-host.socket"):
        asyncio.run(host.reboot())


@pytest.mark.parametrize(
    ("request_line", "problem"),
    [
        (b"{}\n", "None is none of blink, facts"),
        (b'{"do": "__init__"}\n', "is none of"),
        (b"[]\n", "JSON object"),
        (b"no json\n", "a line of JSON"),
        (b"x" * 5000 + b"\n", "at most 4096"),
        (b'{"do": "blink", "seconds": true}\n', "more than 0 and at most 300"),
        (b'{"do": "blink", "seconds": 1e9}\n', "at most 300"),
        (b'{"do": "signal", "times": 99}\n', "give 1 to 10"),
        (b'{"do": "service", "name": "sshd", "on": false}\n', "one of vpn, discovery"),
        (b'{"do": "service", "name": "vpn", "on": "no"}\n', "true or false"),
        (b'{"do": "journal", "unit": "--rotate"}\n', ""),
        (b'{"do": "journal", "unit": "a b"}\n', "as journalctl takes --unit"),
        (b'{"do": "journal", "count": 0}\n', "1 or more"),
        (b'{"do": "journal", "format": "short --merge"}\n', "give one of cat"),
        (b'{"do": "journal", "since": "$(reboot)"}\n', "as journalctl takes --since"),
    ],
)
def test_what_is_no_request_is_refused(door: HostDoor, request_line: bytes, problem: str) -> None:
    door.program("journalctl", '#!/bin/sh\necho "$@"\n')
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(60)
        caller.connect(str(door.path))
        caller.sendall(request_line)
        answer = caller.makefile("rb").read()
    line, _, rest = answer.partition(b"\n")
    if problem:
        assert problem in json.loads(line)["error"]
    else:  # it is a unit's name to journalctl, and no option
        assert rest.split()[-1] == b"--unit=--rotate"
    assert door.calls == []


def test_the_led_blinks_and_is_given_back(host: DeviceHost, door: HostDoor) -> None:
    led = door.led()
    seen = set()
    asyncio.run(host.blink(1.5))
    end = time.monotonic() + 60
    while "none" not in (led / "trigger").read_text() and time.monotonic() < end:
        time.sleep(0.005)
    while door.busy and time.monotonic() < end:
        seen.add((led / "brightness").read_text().strip())
        time.sleep(0.02)
    assert {"0", "255"} <= seen
    assert (led / "trigger").read_text().strip() == "actpwr"


def test_a_board_without_an_led_blinks_in_vain(host: DeviceHost) -> None:
    asyncio.run(host.blink())


def test_a_signal_lasts_while_it_is_held(host: DeviceHost, door: HostDoor) -> None:
    led = door.led("led0")

    async def signalled() -> None:
        async with host.signal(4):
            await asyncio.to_thread(wait_for, lambda: "255" in (led / "brightness").read_text())

    asyncio.run(signalled())
    wait_for(lambda: not door.busy)
    assert (led / "trigger").read_text().strip() == "actpwr"


def test_host_name_variant_and_services(host: DeviceHost, door: HostDoor) -> None:
    door.state("gantry-vpn.service", "activating")
    assert asyncio.run(host.facts()) == {
        "hostname": "quiet-robot",
        "variant": "production",
        "services": {"vpn": "activating", "discovery": "inactive"},
    }
    status = asyncio.run(host.vpn_status())
    assert (status.enabled, status.connected) == (True, False)


def test_a_service_is_switched(host: DeviceHost, door: HostDoor) -> None:
    asyncio.run(host.switch("discovery", False))
    asyncio.run(host.switch("vpn", True))
    assert door.calls == [
        "--no-block stop avahi-daemon.socket avahi-daemon.service",
        "--no-block start gantry-vpn.service",
    ]


def test_what_is_off_is_marked_for_the_units_of_the_host(host: DeviceHost, door: HostDoor) -> None:
    mark = door.home / "run/off/vpn"
    for _ in range(2):
        asyncio.run(host.switch("vpn", False))
        assert mark.exists()
    asyncio.run(host.switch("discovery", True))
    assert mark.exists()
    for _ in range(2):
        asyncio.run(host.switch("vpn", True))
        assert not mark.exists()
    mark.parent.rmdir()
    mark.parent.touch()
    with pytest.raises(HostError, match=r"off/vpn cannot be written: (File exists|Not a dir)"):
        asyncio.run(host.switch("vpn", False))


async def _read(host: DeviceHost, query: JournalQuery) -> bytes:
    return b"".join([piece async for piece in host.journal(query)])


def test_the_journal_has_the_options_that_were_asked_for(host: DeviceHost, door: HostDoor) -> None:
    door.program("journalctl", '#!/bin/sh\nfor each; do echo "$each"; done\n')
    query = journal_query(
        {
            "all": "true",
            "count": "7",
            "unit": "docker.service",
            "containerId": "abc",
            "format": "json",
            "since": "2026-01-02 03:04:05",
            "until": "-1h",
            "unknown": 1,
        }
    )
    assert asyncio.run(_read(host, query)).decode().splitlines() == [
        "--no-pager",
        "--quiet",
        "--all",
        "--lines=7",
        "--output=json",
        "--unit=docker.service",
        "--identifier=abc",
        "--since=2026-01-02 03:04:05",
        "--until=-1h",
    ]


def test_what_journalctl_says_against_it_is_told(host: DeviceHost, door: HostDoor) -> None:
    door.program("journalctl", "#!/bin/sh\necho 'Failed to parse timestamp: x' >&2\nexit 1\n")
    with pytest.raises(HostError, match="journalctl: Failed to parse timestamp"):
        asyncio.run(_read(host, JournalQuery(since="x")))


def test_a_journal_that_nobody_reads_waits_and_ends_with_its_reader(
    host: DeviceHost, door: HostDoor, tmp_path: Path
) -> None:
    written = tmp_path / "written"
    door.program(
        "journalctl",
        f"#!/bin/bash\nwhile true; do printf '%01000000d' 0; echo -n x >> {written}; done\n",
    )

    async def read_little() -> int:
        async with aclosing(host.journal(JournalQuery(follow=True))) as pieces:
            await anext(pieces)
            sizes = [-1, -2]
            while sizes[-1] != sizes[-2]:  # until it writes no more
                await asyncio.sleep(1.0)
                sizes.append(written.stat().st_size if written.exists() else 0)
            return sizes[-1]

    assert asyncio.run(read_little()) < 10  # megabytes
    wait_for(lambda: not door.busy)


def test_a_silent_journal_ends_with_its_reader(host: DeviceHost, door: HostDoor) -> None:
    door.program("journalctl", "#!/bin/sh\nexec sleep 600\n")

    async def open_and_leave() -> None:
        pieces = host.journal(JournalQuery(follow=True))
        reading = asyncio.ensure_future(anext(pieces))
        await asyncio.to_thread(wait_for, lambda: door.busy)
        await asyncio.sleep(1.5)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    asyncio.run(open_and_leave())
    wait_for(lambda: not door.busy)


@pytest.mark.parametrize(
    "body", [{"count": -1}, {"count": True}, {"count": "x"}, {"unit": ["a"]}, {"since": "a\nb"}]
)
def test_a_query_that_journalctl_would_not_take(body: dict[str, Any]) -> None:
    with pytest.raises(HostRequestError, match="give"):
        journal_query(body)


@pytest.mark.skipif(not os.path.exists("/usr/bin/journalctl"), reason="no journalctl here")
def test_the_real_journalctl_takes_the_options(host: DeviceHost) -> None:
    query = journal_query({"count": 1, "format": "json", "since": "2020-01-01", "until": "now"})
    asyncio.run(_read(host, query))  # refused options would raise

"""Who is let in, refused or sent away, and what a storm does to the api."""

import asyncio
from typing import Any

import pytest

from gantry.vpn import login
from gantry.vpn.metrics import Login
from tests.unit.vpn.parts import CONFIG, UUID, StandIn, consent, serving


def test_the_api_s_word_becomes_openvpn_s(api: StandIn) -> None:
    async def run() -> None:
        async with serving(api) as server:
            api.answer = lambda *_: (200, consent())
            server.knock(4)
            assert await server.command() == "client-auth 4 0"
            assert await server.command() == "ifconfig-push 100.64.0.7 255.192.0.0"
            assert await server.command() == "END"
            assert api.asked == [
                ("POST", "/devices/authorize", {"uuid": UUID, "key": "k3y", "server": "vpn-1"})
            ]
            for status, told, sentence in (
                (401, {"error": "the key of device 5ca1 has ended"}, "wrong uuid or key"),
                (403, {"error": "device 5ca1 is not active"}, "device 5ca1 is not active"),
            ):
                api.answer = lambda *_, status=status, told=told: (status, told)
                server.knock(5)
                assert await server.command() == f'client-deny 5 0 "{sentence}" "{sentence}"'

    asyncio.run(run())


@pytest.mark.parametrize("uuid", ["", "robot", UUID.upper(), UUID[:-1], UUID + "0", "../" + UUID])
def test_what_is_no_uuid_is_not_asked_about(api: StandIn, uuid: str) -> None:
    async def run() -> None:
        async with serving(api) as server:
            server.knock(1, uuid=uuid)
            assert "wrong uuid or key" in await server.command()
            assert api.asked == []

    asyncio.run(run())


@pytest.mark.parametrize(
    "told",
    [
        (0, None),
        (500, {"error": "internal"}),
        (502, {}),
        (200, {}),
        (200, consent(uuid="0" * 32)),
        (200, consent(address="100.64.0.1")),  # the server's own
        (200, consent(address="10.0.0.1")),
        (200, consent(address="100.64.0.0")),
        (200, consent(address="100.64.0.9\nEND")),
    ],
)
def test_without_a_clear_word_nobody_comes_in(api: StandIn, told: tuple[int, Any]) -> None:
    async def run() -> None:
        async with serving(api) as server:
            api.answer = lambda *_: told
            server.knock(1)
            command = await server.command()
            assert command.startswith('client-deny 1 0 "the servers are busy" "TEMP[backoff ')
            assert server.devices.session(1) is None

    asyncio.run(run())


def test_who_is_in_stays_in_while_the_api_is_away_but_only_with_its_key(api: StandIn) -> None:
    async def run() -> None:
        async with serving(api) as server:
            api.answer = lambda *_: (200, consent())
            await server.enter(1)
            api.answer = lambda *_: (0, None)
            server.knock(1, again=True)
            assert await server.command() == "client-auth-nt 1 0"
            server.knock(1, key="another", again=True)
            assert "TEMP[backoff" in await server.command()
            # A connection is one device's, whoever's key it shows.
            server.knock(1, uuid="0" * 32, again=True)
            assert (await server.command()).startswith("client-deny 1 0")
            assert await server.command() == "client-kill 1"
            api.answer = lambda *_: (401, {"error": "ended"})
            server.knock(1, again=True)
            assert (await server.command()).startswith("client-deny 1 0")
            assert await server.command() == "client-kill 1"

    asyncio.run(run())


def test_a_renewal_counts_with_the_key_that_it_was_made_with(api: StandIn) -> None:
    async def run() -> None:
        async with serving(api) as server:
            api.answer = lambda *_: (200, consent())
            await server.enter(1)
            server.knock(1, key="newer", again=True)
            assert await server.command() == "client-auth-nt 1 0"
            api.answer = lambda *_: (0, None)
            server.knock(1, key="newer", again=True)
            assert await server.command() == "client-auth-nt 1 0"
            server.knock(1, again=True)
            assert "TEMP[backoff" in await server.command()

    asyncio.run(run())


def test_a_storm_waits_here_and_not_in_the_api(api: StandIn, monkeypatch: Any) -> None:
    async def run() -> None:
        monkeypatch.setattr(login, "MAX_WAITING", 60)
        async with serving(api) as server:
            api.answer = lambda _, __, body: (200, consent(body["uuid"]))
            api.delay = 0.01
            for number in range(80):
                server.knock(number, uuid=f"{number:032x}")
            answers = [await server.command() for _ in range(20 + 3 * 60)]
            assert api.most_at_once == login.AT_ONCE
            assert sum(each.startswith("client-auth") for each in answers) == 60
            # Who comes when too many wait is sent away at once, each for another while.
            away = [each for each in answers if "TEMP[backoff" in each]
            assert len(away) == 20
            assert len(set(away)) > 5
            text = server.metrics.text().decode()
            assert f'gantry_vpn_logins_total{{result="{Login.BUSY}"}} 20.0' in text

    asyncio.run(run())


def test_who_finds_no_room_is_told_so_and_the_operator_too(
    api: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    async def run() -> None:
        api.answer = lambda _, __, body: (200, consent(body["uuid"]))
        async with serving(api, CONFIG.model_copy(update={"max_devices": 2})) as server:
            for number in (1, 2):
                await server.enter(number, uuid=f"{number:032x}")
            for number in (3, 4):
                server.knock(number, uuid=f"{number:032x}")
                said = await server.command()
                assert said.startswith(f'client-deny {number} 0 "{login.FULL}" "TEMP[backoff ')
                assert said.endswith(f']:{login.FULL}"')
            assert len(api.asked) == 2
            # Who is there already comes in anew, and has its keys made anew.
            await server.enter(5, uuid=f"{1:032x}")
            server.knock(5, uuid=f"{1:032x}", again=True)
            assert await server.command() == "client-auth-nt 5 0"
            # A place that is free again is had by who asks next.
            for gone in (1, 2, 5):
                server.leave(gone)
            await server.enter(6, uuid=f"{3:032x}")
            text = server.metrics.text().decode()
            assert f'gantry_vpn_logins_total{{result="{Login.FULL}"}} 2.0' in text
            assert "gantry_vpn_devices_most 2.0" in text

    asyncio.run(run())
    # Once a minute is enough.
    (line,) = [each for each in capsys.readouterr().out.splitlines() if each.startswith("full")]
    assert line == (
        "full: 2 devices are connected, as many as it has room for; give it more memory "
        "(gantry:memory: {vpn: MiB}) or the fleet one more server (gantry:vpn: {servers: N})"
    )


def test_who_waited_too_long_is_sent_away(api: StandIn, monkeypatch: Any) -> None:
    async def run() -> None:
        monkeypatch.setattr(login, "PATIENCE_SECONDS", 0.05)
        async with serving(api) as server:
            api.delay = 1.0
            server.knock(1)
            assert "TEMP[backoff" in await server.command()

    asyncio.run(run())


def test_the_end_of_a_key_cuts_its_device(api: StandIn) -> None:
    async def run() -> None:
        async with serving(api) as server:
            api.answer = lambda *_: (200, consent())
            await server.enter(1)
            assert server.cuts.names("credential") == ["key:1"]
            assert server.cuts.cut("credential:key:1", "ended") == 1
            assert await server.command() == "client-kill 1"
            server.leave(1)
            assert server.cuts.names("credential") == []
            # A key with a time ends by itself.
            api.answer = lambda *_: (200, consent() | {"seconds": 0.2})
            await server.enter(2)
            assert await server.command() == "client-kill 2"

    asyncio.run(run())


def test_what_openvpn_did_not_live_to_see_leaves_nothing(api: StandIn) -> None:
    async def run() -> None:
        async with serving(api) as server:
            api.answer = lambda *_: (200, consent())
            api.delay = 0.1
            server.knock(1)
            await asyncio.sleep(0.02)
            server.run.management.close()
            server.devices.all_gone(server.run)
            await asyncio.sleep(0.2)
            assert server.devices.session(1) is None
            assert server.cuts.names("credential") == []

    asyncio.run(run())

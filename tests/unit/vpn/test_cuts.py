"""What goes by a credential or a device ends with it, and with nothing else."""

import asyncio
import time

import pytest

from gantry.vpn.cuts import Cuts
from gantry.vpn.errors import VpnError
from gantry.vpn.tunnels import Crowd


def test_a_cut_reaches_all_that_go_by_it_and_nobody_else() -> None:
    cuts, heard = Cuts(), []
    one, two = object(), object()
    cuts.add(one, ("credential:a", "device:x"), lambda why: heard.append(("one", why)))
    cuts.add(two, ("credential:b", "device:x"), lambda why: heard.append(("two", why)))
    assert sorted(cuts.names("credential")) == ["a", "b"]
    assert cuts.cut("credential:a", "over") == 1
    assert cuts.cut("device:x", "gone") == 2
    assert cuts.cut("device:y", "gone") == 0
    assert heard == [("one", "over"), ("one", "gone"), ("two", "gone")]
    cuts.remove(one, ("credential:a", "device:x"))
    cuts.remove(two, ("credential:b", "device:x"))
    assert cuts.names("credential") == []
    assert cuts.cut("device:x", "gone") == 0


def test_a_guarded_block_ends_and_what_follows_goes_on() -> None:
    async def guarded(cuts: Cuts) -> str:
        with cuts.guarding(("device:x", "credential:a")) as guard:
            await asyncio.sleep(30)
        await asyncio.sleep(0)  # not cancelled any more
        return guard.reason

    async def run() -> None:
        cuts = Cuts()
        task = asyncio.create_task(guarded(cuts))
        await asyncio.sleep(0.01)
        cuts.cut("device:x", "first")
        cuts.cut("credential:a", "second")  # it has one reason
        assert await task == "first"
        assert cuts.names("credential") == []

    asyncio.run(run())


def test_a_guarded_block_ends_with_its_time() -> None:
    async def run() -> str:
        with Cuts().guarding(("device:x",), time.monotonic() + 0.05) as guard:
            await asyncio.sleep(30)
        return guard.reason

    assert "time is over" in asyncio.run(run())


def test_who_is_cancelled_from_outside_stays_cancelled() -> None:
    async def run() -> None:
        cuts = Cuts()

        async def guarded() -> None:
            with cuts.guarding(("device:x",)):
                await asyncio.sleep(30)

        for also_cut in (False, True):
            task = asyncio.create_task(guarded())
            await asyncio.sleep(0.01)
            if also_cut:
                cuts.cut("device:x", "gone")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


def test_a_cut_after_the_block_cancels_nothing() -> None:
    async def run() -> None:
        cuts = Cuts()
        with cuts.guarding(("device:x",)) as guard:
            pass
        guard.cut("late")
        await asyncio.sleep(0.01)

    asyncio.run(run())


def test_a_crowd_is_limited_in_all_and_by_name() -> None:
    crowd = Crowd(3, 2, "device", "tunnels")
    with crowd.joined("a"), crowd.joined("a"):
        with pytest.raises(VpnError, match="this device") as caught, crowd.joined("a"):
            pass
        assert caught.value.status == 429
        # Whoever comes when there is no room is not told that it is their own doing.
        no_room = "no room for more tunnels"
        with (
            crowd.joined("b"),
            pytest.raises(VpnError, match=no_room) as caught,
            crowd.joined("c"),
        ):
            pass
        assert caught.value.status == 503
    with crowd.joined("a"), crowd.joined("b"), crowd.joined("c"):
        pass

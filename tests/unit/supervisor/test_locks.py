"""Locks: the family's files in a real directory, leases, and what ends them."""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gantry.supervisor import lockfiles
from gantry.supervisor.leases import LeaseError
from gantry.supervisor.locks import LockedError, LockKind, Locks, is_overridden
from gantry.supervisor.store import Store

Scenario = Callable[[Locks, Path], Awaitable[None]]


def run(home: Path, scenario: Scenario) -> None:
    """Carry out a scenario with locks on a real store; services `a` and `b` of application 7."""

    async def with_store() -> None:
        store = Store(home / "database.sqlite")
        await store.open()
        for service in ("a", "b"):
            (home / "services" / "7" / service).mkdir(parents=True, exist_ok=True)
        locks = Locks(home, store)
        await locks.open()
        try:
            await scenario(locks, home / "services" / "7")
        finally:
            await store.close()

    asyncio.run(with_store())


def left(directory: Path) -> list[str]:
    """What lies in the directories of services."""
    return sorted(str(each.relative_to(directory)) for each in directory.glob("*/*"))


def exclusive(path: Path) -> None:
    """What an application does."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL))


@pytest.mark.parametrize("name", ["updates.lock", "resin-updates.lock"])
def test_one_service_s_file_locks_the_whole_application(tmp_path: Path, name: str) -> None:
    async def scenario(locks: Locks, directory: Path) -> None:
        exclusive(directory / "b" / name)
        (holder,) = await locks.holders(7)
        assert (holder.service, holder.kind, holder.expires) == ("b", LockKind.FILE, None)
        assert abs(holder.since - time.time()) < 60
        with pytest.raises(LockedError, match="application 7 is locked by service b since 20"):
            async with locks.hold([7]):
                pass
        # What was taken on the way is given back, and other applications are not concerned.
        assert not (directory / "a" / "updates.lock").exists()
        async with locks.hold([8]):
            pass
        async with locks.hold([7], force=True):
            assert await locks.holders(7) == ()
        assert left(directory) == []

    run(tmp_path, scenario)


def test_applications_cannot_lock_while_the_supervisor_does(tmp_path: Path) -> None:
    async def scenario(locks: Locks, directory: Path) -> None:
        async with locks.hold([7]) as held:
            for path in ("a/updates.lock", "a/resin-updates.lock", "b/updates.lock"):
                with pytest.raises(FileExistsError):
                    exclusive(directory / path)
            if os.getuid() == 0:
                assert (directory / "a" / "updates.lock").stat().st_uid == 65534
            with pytest.raises(LockedError, match="locked by the supervisor since"):
                await locks.lease(7, 10.0, "lab")
            with pytest.raises(LockedError, match="locked by the supervisor since"):
                async with locks.hold([7], wait=0.05):
                    pass
            assert [each.kind for each in await locks.all_holders()] == [LockKind.OPERATION]
            # The service that has been replaced is about to start: it may lock at once.
            await held.free(7, "a")
            exclusive(directory / "a" / "updates.lock")
        assert [each.service for each in await locks.holders(7)] == ["a"]

    run(tmp_path, scenario)


def test_whatever_lies_there_is_a_lock_and_is_not_followed(tmp_path: Path) -> None:
    async def scenario(locks: Locks, directory: Path) -> None:
        precious = tmp_path / "precious"
        precious.write_bytes(b"gantry-supervisor\n")
        os.mkfifo(directory / "a" / "updates.lock")
        (directory / "b" / "updates.lock").symlink_to(precious)
        assert [each.service for each in await locks.holders(7)] == ["a", "b"]
        async with locks.hold([7], force=True):
            pass
        (directory / "a" / "updates.lock").mkdir()
        (directory / "a" / "updates.lock" / "x").touch()
        async with locks.hold([7], force=True):
            pass
        assert precious.exists()
        assert left(directory) == []

    run(tmp_path, scenario)


def test_locks_of_a_supervisor_that_lost_its_power_end_and_others_do_not(tmp_path: Path) -> None:
    async def dies(locks: Locks, directory: Path) -> None:
        taken = locks.hold([7])
        await taken.__aenter__()
        (directory / "a" / ".gantry-lock-0123").touch()
        (directory / "b" / "updates.lock").unlink()
        exclusive(directory / "b" / "updates.lock")
        # No __aexit__: what it holds stays where it is, as when the power goes.
        os.rename(directory, tmp_path / "kept")
        await taken.__aexit__(None, None, None)
        os.rename(tmp_path / "kept", directory)

    async def lives(locks: Locks, directory: Path) -> None:
        assert left(directory) == ["b/updates.lock"]
        assert [each.service for each in await locks.holders(7)] == ["b"]

    run(tmp_path, dies)
    run(tmp_path, lives)


def test_the_lock_of_a_service_of_which_nothing_runs_is_none(tmp_path: Path) -> None:
    async def scenario(locks: Locks, directory: Path) -> None:
        exclusive(directory / "a" / "updates.lock")
        exclusive(directory / "b" / "updates.lock")
        locks.is_alive = lambda app_id, service: (app_id, service) != (7, "a")
        assert [each.service for each in await locks.holders(7)] == ["b"]
        os.unlink(directory / "b" / "updates.lock")
        async with locks.hold([7]):
            pass
        assert left(directory) == []

    run(tmp_path, scenario)


def test_a_lock_ends_with_its_process_and_one_of_the_next_life_does_not(tmp_path: Path) -> None:
    async def scenario(locks: Locks, directory: Path) -> None:
        services = tmp_path / "services"
        old, new = directory / "a" / "updates.lock", directory / "a" / "resin-updates.lock"
        exclusive(old)
        exclusive(directory / "b" / "updates.lock")
        ended = old.stat().st_ctime_ns
        await asyncio.sleep(0.05)  # files have the time of the kernel's last tick
        exclusive(new)
        lockfiles.end_of_life(services, 7, "a", ended)
        assert left(directory) == ["a/resin-updates.lock", "b/updates.lock"]
        lockfiles.end_of_life(services, 7, "none", time.time_ns())
        lockfiles.end_of_life(services, 7, "a", time.time_ns())
        assert [each.service for each in await locks.holders(7)] == ["b"]
        # What the supervisor holds stays its own, though it has stopped what ran there.
        async with locks.hold([7], force=True):
            lockfiles.end_of_life(services, 7, "a", time.time_ns() + 10**9)
            assert old.exists()

    run(tmp_path, scenario)


def test_a_lease_locks_until_it_ends(tmp_path: Path) -> None:
    async def scenario(locks: Locks, directory: Path) -> None:
        lease = await locks.lease(7, 60.0, "lab controller")
        assert abs((lease.expires or 0) - time.time() - 60) < 5
        with pytest.raises(LockedError, match="application 7 is locked by lab controller since"):
            async with locks.hold([7]):
                pass
        other = await locks.lease(7, 0.05, "somebody")
        await asyncio.sleep(0.1)
        assert [each.lease for each in await locks.holders(7)] == [lease.lease]
        with pytest.raises(LeaseError, match="it ended"):
            await locks.renew(other.lease, 10.0)
        renewed = await locks.renew(lease.lease, 600.0)
        assert (renewed.expires or 0) > time.time() + 500
        assert await locks.release(lease.lease)
        assert not await locks.release(lease.lease)
        async with locks.hold([7]):
            pass
        forced = await locks.lease(7, 60.0, "lab")
        async with locks.hold([7], force=True):
            pass
        assert not await locks.release(forced.lease)

    run(tmp_path, scenario)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 86401.0, float("nan"), float("inf")])
def test_a_term_has_bounds(tmp_path: Path, seconds: float) -> None:
    async def scenario(locks: Locks, directory: Path) -> None:
        with pytest.raises(LeaseError, match="give more than 0"):
            await locks.lease(7, seconds, "lab")

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    ("jump", "most"), [(0.0, 60.0), (3600.0 * 24 * 365, 60.0), (-50.0, 10.0), (-70.0, 0.0)]
)
def test_a_lease_outlives_a_restart_but_no_clock_makes_it_eternal(
    tmp_path: Path, jump: float, most: float
) -> None:
    """`jump` is how far the clock was set back while no supervisor ran."""

    async def before(locks: Locks, directory: Path) -> None:
        await locks.lease(7, 60.0, "lab")
        (document,) = await locks._leases._store.get("leases")
        document["expires"] += jump
        await locks._leases._store.put("leases", [document, {"id": "no lease"}])

    async def after(locks: Locks, directory: Path) -> None:
        left = [(each.expires or 0) - time.time() for each in await locks.holders(7)]
        assert len(left) == (most > 0)
        assert all(most - 10 < each <= most for each in left)

    run(tmp_path, before)
    run(tmp_path, after)


def test_the_variable_overrides(tmp_path: Path) -> None:
    assert is_overridden({"BALENA_SUPERVISOR_OVERRIDE_LOCK": "1"})
    assert is_overridden({"RESIN_OVERRIDE_LOCK": "1"})
    assert not is_overridden({"RESIN_SUPERVISOR_OVERRIDE_LOCK": "0"})

    async def scenario(locks: Locks, directory: Path) -> None:
        exclusive(directory / "a" / "updates.lock")
        locks.override = True
        async with locks.hold([7]):
            pass

    run(tmp_path, scenario)


def test_a_lock_with_a_time_that_is_none_counts_from_now() -> None:
    """A file system in memory, as the runtime directory is on one, keeps any time."""

    async def scenario(locks: Locks, directory: Path) -> None:
        exclusive(directory / "a" / "updates.lock")
        os.utime(directory / "a" / "updates.lock", (9e17, 9e17))
        (holder,) = await locks.holders(7)
        assert abs(holder.since - time.time()) < 60
        with pytest.raises(LockedError, match="application 7 is locked by service a since 20"):
            async with locks.hold([7]):
                pass

    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        run(Path(folder), scenario)

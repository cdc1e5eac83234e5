"""Another supervisor in this one's place: the plan, and the loop with the host's real door. What
systemd would start is noted; how it ended is left as the host's program leaves it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.supervisor import succession, wire
from gantry.supervisor.host.door import Door
from gantry.supervisor.journal import Journal
from gantry.supervisor.locks import LockedError
from gantry.supervisor.store import Store
from gantry.supervisor.succession import Hindrance, Succession
from gantry.supervisor.successor import (
    LOOK_EVERY,
    Attempt,
    Begin,
    End,
    HostState,
    Note,
    Rest,
    plan,
    read_attempt,
    read_host,
)
from gantry.supervisor.target import TargetSupervisor, read_target
from tests.host_door import HostDoor

NAME = "registry.devbots.gantry.internal:8443/gantry/aarch64-supervisor"
NEW, NEWER = (f"{NAME}@sha256:{each * 64}" for each in "ab")
WANTED = TargetSupervisor("0.8.0", NEW)
OLD = frozenset({f"{NAME}:0.7.0", f"{NAME}@sha256:{'0' * 64}"})
DAY = 86400.0


def host(
    images: frozenset[str] = OLD,
    is_updating: bool = False,
    result: tuple[str, str, str] | None = None,
) -> HostState:
    return HostState(images, is_updating, result)


def test_the_host_is_asked_once_and_the_end_is_told_by_who_runs_then() -> None:
    begin = plan(WANTED, host(), None, 100.0, DAY)
    assert begin == Begin(Attempt(NEW, 1, 100.0))
    assert plan(WANTED, host(is_updating=True), begin.attempt, 101.0, DAY) == Rest(LOOK_EVERY)
    # On trial it is not there for good yet.
    on_trial = host(OLD | {NEW}, is_updating=True)
    assert plan(WANTED, on_trial, begin.attempt, 102.0, DAY) == Rest(LOOK_EVERY)
    end = plan(WANTED, host(frozenset({NEW})), begin.attempt, 103.0, DAY)
    assert end == Note(None, "Supervisor 0.8.0 runs now")
    assert plan(WANTED, host(frozenset({NEW})), None, 104.0, DAY) == Rest(None)


def test_one_that_came_back_is_not_tried_again_for_long() -> None:
    asked = Attempt(NEW, 1, 100.0)
    reason = "it was not healthy within 180 s"
    note = plan(WANTED, host(result=(NEW, "returned", reason)), asked, 200.0, DAY)
    assert isinstance(note, Note)
    assert note.is_error
    assert note.sentence == (
        f"Supervisor 0.8.0 was tried, and the old one is back: {reason}. It is tried again in "
        "24 h, or when the target changes"
    )
    assert note.attempt == Attempt(NEW, 1, 200.0, End.RETURNED, reason)
    assert plan(WANTED, host(), note.attempt, 200.0 + DAY - 10, DAY) == Rest(10.0)
    assert plan(WANTED, host(), note.attempt, 200.0 + DAY, DAY) == Begin(
        Attempt(NEW, 2, 200.0 + DAY)
    )
    # Another one is another thing.
    other = replace(WANTED, image=NEWER)
    assert plan(other, host(), note.attempt, 201.0, DAY) == Begin(Attempt(NEWER, 1, 201.0))


@pytest.mark.parametrize(
    ("result", "end"),
    [
        ((NEW, "failed", "cannot be pulled"), End.FAILED),
        ((NEWER, "returned", "of another one"), End.LOST),
        (None, End.LOST),
    ],
)
def test_what_was_not_the_releases_fault_is_tried_again_sooner(
    result: tuple[str, str, str] | None, end: End
) -> None:
    note = plan(WANTED, host(result=result), Attempt(NEW, 1, 0.0), 100.0, DAY)
    assert isinstance(note, Note)
    assert note.attempt is not None
    assert note.attempt.end is end
    assert "tried again in 10 min" in note.sentence
    assert plan(WANTED, host(), note.attempt, 100.0, DAY) == Rest(600.0)
    third = replace(note.attempt, tries=3)
    assert plan(WANTED, host(), third, 100.0 + 2399, DAY) == Rest(1.0)
    assert plan(WANTED, host(), replace(third, tries=40), 100.0 + DAY, DAY) == Begin(
        Attempt(NEW, 41, 100.0 + DAY)
    )


def test_a_clock_that_goes_back_makes_nobody_wait_for_years() -> None:
    ended = Attempt(NEW, 1, 10 * 365 * DAY, End.RETURNED, "x")
    note = plan(WANTED, host(), ended, 100.0, DAY)
    assert note == Note(replace(ended, at=100.0))


_images = st.sampled_from([NEW, NEWER, f"{NAME}:0.7.0"])
_hosts = st.builds(
    HostState,
    st.frozensets(_images),
    st.booleans(),
    st.none() | st.tuples(_images, st.sampled_from(["updated", "returned", "failed"]), st.text()),
)
_attempts = st.builds(
    Attempt,
    _images,
    st.integers(1, 100),
    st.floats(0, 1e10),
    st.none() | st.sampled_from(End),
    st.text(),
)


@given(_hosts, st.none() | _attempts, st.floats(0, 1e10), st.floats(1, 1e8))
def test_it_always_comes_to_rest_and_never_asks_for_what_runs(
    found: HostState, last: Attempt | None, now: float, retry: float
) -> None:
    begun = 0
    for _ in range(4):
        step = plan(WANTED, found, last, now, retry)
        if isinstance(step, Rest):
            assert step.seconds is None or 0 < step.seconds <= 3600.0
            assert step.seconds is not None or NEW in found.images
            break
        if isinstance(step, Begin):
            assert NEW not in found.images
            assert not found.is_updating
            begun += 1
        last = step.attempt
    else:
        raise AssertionError("it goes on for ever")
    assert begun <= 1
    assert read_attempt(json.loads(json.dumps(last.document() if last else None))) == last


@pytest.mark.parametrize("document", [None, {}, "x", [], {"image": NEW}, {"end": "?"}, {"at": "x"}])
def test_a_memory_of_another_version_is_none(document: object) -> None:
    assert read_attempt(document) is None


def test_the_hosts_answer_and_the_target_are_read() -> None:
    answer = {
        "image": f"{NAME}:0.7.0",
        "digests": [NEW],
        "updating": False,
        "result": {"image": NEW, "state": "failed", "message": "why"},
    }
    assert read_host(answer) == HostState(
        frozenset({f"{NAME}:0.7.0", NEW}), False, (NEW, "failed", "why")
    )
    assert read_host({"image": "", "digests": None}).result is None
    target = {"u": {"name": "n", "supervisor": {"version": "0.8.0", "image": NEW}}}
    assert read_target(target, "u").supervisor == WANTED
    assert read_target({"u": {"name": "n"}}, "u").supervisor is None
    with pytest.raises(wire.WireError, match="supervisor: image"):
        read_target({"u": {"supervisor": {"version": "0.8.0"}}}, "u")


class Bench:
    """A device's supervisors, one life after the other, on one store."""

    def __init__(self, home: Path, door: HostDoor) -> None:
        self.door = door
        self.said: list[str] = []
        self.locked = False
        self.brought: list[tuple[str, frozenset[str]]] = []
        self.is_bringing = False
        self.hindrance: Hindrance | None = None
        self.retry = DAY
        self._store = home / "database.sqlite"

    @asynccontextmanager
    async def _hold(self, force: bool) -> AsyncIterator[None]:
        if self.locked and not force:
            raise LockedError(())
        yield

    async def _bring(self, image: str, running: frozenset[str]) -> None:
        self.brought.append((image, running))
        if self.is_bringing:
            await asyncio.sleep(60)

    async def _live(
        self, wanted: TargetSupervisor | None, until: Callable[[Succession], bool]
    ) -> None:
        store = Store(self._store)
        await store.open()
        one = Succession(
            store,
            Door(self.door.path),
            Journal(lambda text, _service: self.said.append(text)),
            self._hold,
            lambda: self.hindrance,
            lambda: self.retry,
            self._bring,
        )
        one.follow(wanted)
        living = asyncio.create_task(one.run())
        try:
            async with asyncio.timeout(60):
                while not until(one):
                    await asyncio.wait({living}, timeout=0.05)
                    if living.done():
                        living.result()
        finally:
            living.cancel()
            await asyncio.gather(living, return_exceptions=True)
            await store.close()

    def live(
        self,
        until: Callable[[Succession], bool],
        wanted: TargetSupervisor | None = WANTED,
    ) -> None:
        """Run a supervisor's succession until something is so, and take its power."""
        asyncio.run(self._live(wanted, until))

    def until(self, state: str) -> None:
        self.live(lambda one: one.view()["state"] == state)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(succession, "_BLOCKED_AGAIN", 0.1)
    monkeypatch.setattr(succession, "LOOK_EVERY", 0.1)
    door = HostDoor(tmp_path / "host")
    fleet = {"apiEndpoint": "https://api.devbots.gantry.internal:8443"}
    (door.boot / "config.json").write_text(json.dumps(fleet))
    (door.home / "supervisor.json").write_text('{"architecture": "aarch64", "version": "0.7.0"}')
    yield Bench(tmp_path, door)
    door.close()


def test_the_host_begins_and_the_old_one_finds_out_that_it_is_back(bench: Bench) -> None:
    bench.until("updating")
    assert [each.split()[-2:] for each in bench.door.runs] == [
        ["/usr/local/sbin/gantry-supervisor-update", NEW]
    ]
    bench.door.ended(NEW, "returned", "it ended with status 1")
    bench.until("returned")
    assert "the old one is back: it ended with status 1" in bench.said[-1]
    # Over restarts too, and not twice.
    said = len(bench.said)
    bench.until("returned")
    assert (len(bench.said), len(bench.door.runs)) == (said, 1)
    # But another one is wanted, or long is over.
    bench.live(lambda _: len(bench.door.runs) == 2, replace(WANTED, version="0.8.1", image=NEWER))
    bench.door.ended(NEWER, "failed", "cannot be pulled")
    bench.retry = 0.5
    bench.live(lambda _: len(bench.door.runs) == 3, replace(WANTED, version="0.8.1", image=NEWER))


def test_the_image_is_brought_before_the_host_is_asked(bench: Bench) -> None:
    bench.is_bringing = True
    bench.live(lambda _: bool(bench.brought))
    assert bench.door.runs == []

    def is_another(one: Succession) -> bool:
        if len(bench.brought) == 2:
            one.follow(replace(WANTED, version="0.8.1", image=NEWER))
        return len(bench.brought) == 3

    # Another one is wanted meanwhile.
    bench.live(is_another)
    assert [image for image, _ in bench.brought] == [NEW, NEW, NEWER]
    assert bench.door.runs == []
    bench.is_bringing = False
    bench.until("updating")
    assert len(bench.door.runs) == 1


def test_while_the_host_is_at_it_nothing_is_asked(bench: Bench) -> None:
    bench.door.state("gantry-supervisor-update.service", "active")
    end = time.monotonic() + 1.0
    bench.live(lambda one: one.view()["state"] == "updating" and time.monotonic() > end)
    assert bench.door.runs == []
    assert bench.said == []


@pytest.mark.parametrize("is_firm", [True, False])
def test_it_waits_for_a_safe_moment(
    bench: Bench, is_firm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.hindrance = Hindrance("an update is being applied", is_firm)
    bench.until("waiting")
    assert bench.door.runs == []
    # An application that is never done is waited for, but not for ever.
    monkeypatch.setattr(succession, "_PATIENCE", 0.0)
    if is_firm:
        bench.until("waiting")
        bench.hindrance = None
    bench.until("updating")
    assert len(bench.door.runs) == 1


def test_it_waits_for_locks_and_says_so_once(bench: Bench) -> None:
    bench.locked = True
    end = time.monotonic() + 1.0
    bench.live(lambda one: one.view()["state"] == "waiting" and time.monotonic() > end)
    assert len(bench.said) == 1
    assert "it waits" in bench.said[0]
    assert bench.door.runs == []


def test_what_the_host_refuses_is_told_and_not_asked_at_once_again(bench: Bench) -> None:
    (bench.door.boot / "supervisor.json").write_text('{"source": "/opt/source"}')
    bench.until("refused")
    assert "is run from /opt/source" in bench.said[-1]
    assert "was not begun" in bench.said[-1]
    bench.until("refused")
    assert len([each for each in bench.said if "was not begun" in each]) == 1
    assert bench.door.runs == []


def test_without_a_door_the_reason_is_told(bench: Bench) -> None:
    bench.door.engine = str(bench.door.home / "none.sock")
    bench.until("failed")
    assert "the engine at" in bench.said[0]


def test_where_none_is_wanted_nothing_is_asked(bench: Bench) -> None:
    bench.until("updating")
    bench.live(lambda one: one.view()["state"] == "none", None)
    bench.live(lambda _: len(bench.door.runs) == 2)

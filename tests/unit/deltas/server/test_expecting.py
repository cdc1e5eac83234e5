"""What is expected of a delta that is not made yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gantry.contracts.deltas import ImageReference
from gantry.deltas.server.expecting import REMEMBERED, History, Taken, begins, seconds_left
from gantry.deltas.server.pairs import Pair, Pairs, Verdict

MB = 1_000_000


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[Pairs]:
    made = Pairs(tmp_path / "pairs.sqlite")
    yield made
    made.close()


def test_nothing_is_expected_without_a_history() -> None:
    assert History().seconds(MB) is None
    assert History().size(MB) is None


def test_large_ones_tell_how_fast_it_is_and_small_ones_do_not() -> None:
    history = History([Taken(1000, 10_000, 0.7)] * 10)
    assert history.seconds(9_000) == 2.0
    assert history.seconds(90 * MB) is None
    history.add(Taken(2 * MB, 60 * MB, 20.0))
    history.add(Taken(MB, 30 * MB, 10.0))
    assert history.seconds(90 * MB) == pytest.approx(31.0)
    assert history.seconds(9_000) == pytest.approx(1.0, abs=0.1)
    assert history.size(30 * MB) == pytest.approx(MB, rel=0.01)


def test_small_ones_on_a_busy_machine_tell_nothing_of_large_ones() -> None:
    history = History([Taken(232, 362, 6.6)])
    assert history.seconds(362) == pytest.approx(7.6)
    assert history.seconds(157 * MB) is None
    assert history.size(157 * MB) is None
    history.add(Taken(MB, 50 * MB, 10.0))
    assert history.seconds(150 * MB) == pytest.approx(31.0)
    assert history.size(150 * MB) == 3 * MB


def test_quick_ones_count_beside_a_slow_one() -> None:
    """Twenty with the layers there, and one that had to fetch them."""
    history = History([*[Taken(MB, 20 * MB, 1.5)] * 20, Taken(MB, 20 * MB, 30.0)])
    assert history.seconds(20 * MB) == pytest.approx(1 + 60 / 21)
    assert history.seconds(60 * MB) == pytest.approx(1 + 3 * 60 / 21)
    assert history.seconds(100 * MB) is None


@pytest.mark.parametrize(
    ("working", "waiting", "workers", "seconds"),
    [
        ([], [], 1, 0),
        ([5], [], 1, 5),
        ([5], [7, 8], 1, 20),
        # A free worker takes it at once.
        ([5], [], 2, 0),
        ([5], [7], 2, 5),
        ([5, 9], [], 2, 5),
        ([5, 9], [7, 1], 2, 10),
    ],
)
def test_when_a_worker_is_free(
    working: list[float], waiting: list[float], workers: int, seconds: float
) -> None:
    assert begins(working, waiting, workers) == seconds


def test_what_was_long_ago_is_forgotten() -> None:
    history = History([Taken(MB, 10 * MB, 100.0)])
    for _ in range(REMEMBERED):
        history.add(Taken(MB, 10 * MB, 10.0))
    assert history.seconds(10 * MB) == 11.0


@pytest.mark.parametrize(
    ("expected", "elapsed", "percent", "left"),
    [
        (30.0, 10.0, 99, 20.0),
        # It was wrong: the progress tells, and where that is at its end, a little more.
        (30.0, 40.0, 20, 160.0),
        (30.0, 40.0, 99, 4.0),
        (30.0, 31.0, 0, 3.1),
        (None, 10.0, 4, None),
        (None, 10.0, 25, 30.0),
    ],
)
def test_how_long_it_takes_on(
    expected: float | None, elapsed: float, percent: int, left: float | None
) -> None:
    assert seconds_left(expected, elapsed, percent) == (left and pytest.approx(left))


def test_the_index_has_the_history(pairs: Pairs) -> None:
    def image(number: int) -> ImageReference:
        return ImageReference("registry.example.org", "v2/x", f"sha256:{number:064x}")

    for number in range(4):
        pair = Pair.of([image(number)], image(number + 1))
        pairs.begin(pair, float(number), 100)
        if number == 2:
            pairs.whole(pair.name, Verdict("too large", 100, 5.0, "limits"))
        else:
            pairs.ready(pair.name, f"sha256:{number}", 10 + number, 100, 1.0 + number)
    assert pairs.taken(2) == [Taken(11, 100, 2.0), Taken(13, 100, 4.0)]
    assert len(pairs.taken(9)) == 3
    # The first one was asked for long ago, and is made now.
    first = Pair.of([image(0)], image(1))
    pairs.begin(first, 9.0, 100)
    pairs.ready(first.name, "sha256:0", 10, 100, 9.0)
    assert pairs.taken(2) == [Taken(13, 100, 4.0), Taken(10, 100, 9.0)]

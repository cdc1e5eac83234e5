"""The index: one row a pair, whatever happens to the process, the file or the order of sources."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gantry.contracts.deltas import DeltaState, ImageReference
from gantry.deltas.format import VERSION as FORMAT
from gantry.deltas.server.pairs import Pair, Pairs, Verdict


def image(letter: str, name: str = "v2/x") -> ImageReference:
    return ImageReference("registry.example.org", name, "sha256:" + letter * 64)


PAIR = Pair.of([image("a"), image("b")], image("c"))


@pytest.fixture
def pairs(tmp_path: Path) -> Iterator[Pairs]:
    made = Pairs(tmp_path / "pairs.sqlite")
    yield made
    made.close()


def test_order_means_nothing_and_repositories_do() -> None:
    assert Pair.of([image("b"), image("a"), image("b")], image("c")) == PAIR
    assert Pair.of([image("a"), image("b", "v2/y")], image("c")).name != PAIR.name
    assert Pair.of([image("a")], image("c")).name != PAIR.name


def test_the_life_of_a_pair(pairs: Pairs) -> None:
    assert pairs.find(PAIR.name) is None
    assert pairs.begin(PAIR, 1.0, 100).state is DeltaState.WORKING
    pairs.failed(PAIR.name, "away", 50.0)
    pairs.failed(PAIR.name, "it died", 50.0, died=True)
    again = pairs.begin(PAIR, 2.0)
    assert (again.tries, again.deaths) == (2, 1)
    pairs.ready(PAIR.name, "sha256:d", 10, 100, 1.5)
    pairs.downloaded(PAIR.name)
    pairs.use([PAIR.name], 9.0)
    found = pairs.find(PAIR.name)
    assert found
    assert found.pair == PAIR
    assert (found.state, found.digest, found.size) == (DeltaState.READY, "sha256:d", 10)
    assert (found.downloads, found.tries, found.deaths, found.used_at) == (1, 0, 0, 9.0)
    assert pairs.needs("sha256:d")
    assert pairs.counts() == ({"ready": 1}, 10)
    pairs.whole(PAIR.name, Verdict("too large", None, 2.0, "limits", 70.0))
    found = pairs.find(PAIR.name)
    assert found
    assert (found.digest, found.whole, found.reason) == (None, 100, "too large")
    assert (found.limits, found.retry_at) == ("limits", 70.0)
    pairs.remove(PAIR.name)
    assert pairs.find(PAIR.name) is None
    assert pairs.counts() == ({}, 0)


def test_a_delta_of_two_pairs_counts_once(pairs: Pairs) -> None:
    for letter in "ab":
        pair = Pair.of([image(letter)], image("c"))
        pairs.begin(pair, 1.0)
        pairs.ready(pair.name, "sha256:d", 10, 100, 1.0)
    assert pairs.counts() == ({"ready": 2}, 10)


def test_it_outlives_the_process(tmp_path: Path) -> None:
    first = Pairs(tmp_path / "pairs.sqlite")
    first.begin(PAIR, 1.0, 100)
    first.close()
    again = Pairs(tmp_path / "pairs.sqlite")
    assert [each.pair for each in again.all(DeltaState.WORKING)] == [PAIR]
    again.close()


def test_deltas_of_another_format_are_forgotten(tmp_path: Path) -> None:
    """So that none is handed out: the storage gives up what the index does not know."""
    first = Pairs(tmp_path / "pairs.sqlite")
    first.begin(PAIR, 1.0, 100)
    first.ready(PAIR.name, "sha256:d", 10, 100, 1.5)
    first.close()
    with closing(sqlite3.connect(tmp_path / "pairs.sqlite")) as database:
        (version,) = database.execute("pragma user_version").fetchone()
        assert version & 0xFFFF == FORMAT
        database.execute(f"pragma user_version = {version - 1}")
    again = Pairs(tmp_path / "pairs.sqlite")
    assert again.find(PAIR.name) is None
    assert not again.needs("sha256:d")
    again.close()


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"SQLite format 3\0" + b"x" * 5000])
def test_what_is_no_index_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pairs.sqlite").write_bytes(content)
    made = Pairs(tmp_path / "pairs.sqlite")
    assert made.counts() == ({}, 0)
    made.begin(PAIR, 1.0)
    made.close()


def test_what_is_being_made_is_not_forgotten(pairs: Pairs) -> None:
    other = Pair.of([image("a")], image("c"))
    pairs.begin(PAIR, 1.0)
    pairs.begin(other, 1.0)
    pairs.ready(other.name, "sha256:d", 10, 100, 1.5)
    pairs.forget([PAIR.name, other.name, "nobody's"])
    assert pairs.find(PAIR.name)
    assert pairs.find(other.name) is None

"""What an update of a fleet weighed, and the picture of it."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from gantry.cli.delta_picture import axis_step, axis_top, draw, size_text
from gantry.client.delta_history import Update, pairs_between, update_of
from gantry.client.records import Release
from gantry.contracts.deltas import MAX_SOURCES, DeltaState, PairFigures

RELEASE = Release(
    7, "admin/bots", "abc" * 13, "success", "1.0", True, "2026-11-01T10:00:00Z", None, None
)
SVG = "{http://www.w3.org/2000/svg}"


def image(name: str) -> str:
    return f"registry.bots.test/v2/{name}@sha256:{64 * '1'}"


def test_each_service_that_changes_has_a_pair_its_own_image_first() -> None:
    old = {"api": image("a1"), "web": image("w1"), "worker": image("k1")}
    new = {"api": image("a1"), "more": image("m1"), "web": image("w2")}
    more, web = pairs_between(old, new)
    assert (more.dest, web.dest) == (image("m1"), image("w2"))
    assert more.src == (image("a1"), image("w1"), image("k1"))
    assert web.src == (image("w1"), image("a1"), image("k1"))
    assert pairs_between({}, new) == []
    assert pairs_between(old, old) == []


def test_no_more_sources_than_a_server_takes() -> None:
    old = {f"s{n:02d}": image(f"i{n}") for n in range(20)}
    (pair,) = pairs_between(old, {"s15": image("new")})
    assert len(pair.src) == MAX_SOURCES
    assert pair.src[0] == image("i15")


def figures(
    state: DeltaState, size: int | None, whole: int | None, downloads: int = 0
) -> PairFigures:
    return PairFigures(("a",), "b", state, size, whole, downloads)


def test_sizes_are_added_up_where_all_are_known() -> None:
    ready, whole = figures(DeltaState.READY, 10, 100, 3), figures(DeltaState.WHOLE, 90, 100)
    found = update_of(RELEASE, [ready, whole])
    assert (found.whole, found.delta, found.saved, found.downloads) == (200, 110, 90, 3)
    assert found.state == "whole"
    unknown = update_of(RELEASE, [ready, figures(DeltaState.UNKNOWN, None, None)])
    assert (unknown.delta, unknown.saved, unknown.state) == (None, None, "unknown")
    assert update_of(RELEASE, []).state == "unchanged"


def test_the_picture_is_svg_with_a_bar_for_each_size() -> None:
    updates = [
        Update("a" * 40, "2026-11-01T10:00:00Z", 91_600_000, 3_100_000, 4, "ready"),
        Update("b" * 40, "2026-11-02T10:00:00Z", None, None, 0, "unknown"),
        Update("c" * 40, "2026-11-03T10:00:00Z", 0, 0, 0, "unchanged"),
    ]
    root = ElementTree.fromstring(draw("admin/<bots> & co", updates))  # noqa: S314 - our own
    shapes = [each.get("class") for each in root.iter(f"{SVG}rect")]
    # One of each is the legend's.
    assert (shapes.count("whole"), shapes.count("delta"), shapes.count("none")) == (2, 2, 2)
    texts = [each.text for each in root.iter(f"{SVG}text")]
    assert "Updates of admin/<bots> & co" in texts
    assert {"92M", "3.1M", "aaaaaaa", "2026-11-02", "no change"} <= set(texts)
    assert "3.1 MB instead of 92 MB: 96.6 % saved on each device" in texts
    heights = {e.get("class"): float(e.get("height") or 0) for e in root.iter(f"{SVG}rect")}
    assert heights["whole"] / heights["delta"] == pytest.approx(91.6 / 3.1, rel=0.02)


def test_what_was_pulled_whole_is_outlined() -> None:
    whole = Update("a" * 40, "2026-11-01T10:00:00Z", 5_000_000, 5_000_000, 0, "whole")
    assert draw("bots", [whole]).count('class="pulled"') == 1
    assert 'class="pulled"' not in draw("bots", [replace(whole, delta=9_000, state="ready")])


def test_a_picture_of_nothing_says_so() -> None:
    assert "no updates yet" in draw("bots", [])


@pytest.mark.parametrize("most", [0, 1, 7, 999, 1000, 91_600_000, 10**12])
def test_the_axis_ends_above_the_longest_bar(most: int) -> None:
    step, top = axis_step(most), axis_top(most)
    assert top >= most
    assert top % step == 0
    assert 1 <= top // step <= 6
    assert str(step).strip("0") in ("1", "2", "5")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2_000_000, "2 MB"), (84_300_000, "84 MB")],
)
def test_sizes_in_few_letters(size: int, text: str) -> None:
    assert size_text(size) == text

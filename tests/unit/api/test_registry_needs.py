"""Which images of the registry are needed: never one too few, whatever is there."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.api.registry_needs import (
    DiscardedFact,
    Facts,
    ImageFact,
    Keep,
    ReleaseFact,
    judge,
)
from gantry.contracts.registry_space import Reason

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=100)
KEEP = Keep(releases=2, days=7)
REPOSITORY = f"v2/{'1' * 32}"


def release(number: int, **more: object) -> ReleaseFact:
    fact = ReleaseFact(number, 1, "me/bots", f"{number:040x}", "success", LONG_AGO)
    return replace(fact, **more)  # type: ignore[arg-type]


def image(number: int, *releases: int, **more: object) -> ImageFact:
    fact = ImageFact(number, REPOSITORY, f"sha256:{number:064x}", "main", releases)
    return replace(fact, **more)  # type: ignore[arg-type]


def five(**more: object) -> Facts:
    """Five old successes of one application, an image each."""
    facts = Facts(
        NOW, [release(each) for each in range(1, 6)], [image(each, each) for each in range(1, 6)]
    )
    return replace(facts, **more)  # type: ignore[arg-type]


def reasons(facts: Facts, number: int = 1) -> tuple[Reason, ...]:
    found = {each.digest: each.reasons for each in judge(facts, KEEP).images}
    return found[f"sha256:{number:064x}"]


def test_the_last_successes_of_an_application_stay_and_older_ones_go() -> None:
    needs = judge(five(), KEEP)
    assert [each.reasons for each in needs.images] == [(), (), (), *2 * [(Reason.LATEST,)]]
    assert needs.condemned == (1, 2, 3)
    assert needs.images[0].label == "me/bots main 0000000"
    other = [release(each, application=2) for each in (6, 7)]
    both = five(releases=[*five().releases, *other], images=[*five().images, image(6, 6)])
    assert reasons(both, 6) == (Reason.LATEST,)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"targets": [1]}, Reason.TARGET),
        ({"pinned": [1]}, Reason.PINNED),
        ({"running": [1]}, Reason.RUNNING),
        ({"managing": [1]}, Reason.MANAGES),
        ({"tagged": [1]}, Reason.TAGGED),
        ({"installed": [1]}, Reason.INSTALLED),
        ({"images": [image(1, 1, repository="gantry/aarch64-supervisor")]}, Reason.PLATFORM),
        ({"images": [image(1)]}, Reason.UNKNOWN),
    ],
)
def test_what_is_needed_stays_and_says_why(facts: dict[str, object], reason: Reason) -> None:
    assert reasons(five()) == ()
    assert reasons(five(**facts)) == (reason,)
    assert 1 not in judge(five(**facts), KEEP).condemned


def test_what_is_young_or_being_built_stays() -> None:
    young = [release(1, at=NOW - timedelta(days=6)), *five().releases]
    assert reasons(five(releases=[*young[:1], *young[2:]])) == (Reason.YOUNG,)
    failed = release(1, status="failed")
    assert reasons(five(releases=[failed, *list(five().releases)[1:]])) == ()
    # A build pushes to the repository: what it pushes may be what would go.
    building = [*five().releases, release(6, status="running")]
    facts = five(releases=building, images=[*five().images, image(6, 6, digest=None)])
    assert {Reason.BUILDING in each.reasons for each in judge(facts, KEEP).images} == {True}
    assert judge(facts, KEEP).condemned == ()


def test_an_image_of_two_releases_stays_for_the_one_that_needs_it() -> None:
    facts = five(images=[image(1, 1), image(2, 2, digest=f"sha256:{1:064x}")], pinned=[2])
    needs = judge(facts, KEEP)
    assert [(each.reasons, len(each.digest)) for each in needs.images] == [((Reason.PINNED,), 71)]
    # Its images are all there: nothing is said against running it.
    assert needs.condemned == ()


def test_a_release_that_had_its_images_removed_keeps_none_of_them() -> None:
    marked = release(5, is_removed=True, at=NOW)
    facts = five(releases=[*list(five().releases)[:4], marked])
    assert reasons(facts, 5) == ()
    assert reasons(facts, 3) == (Reason.LATEST,)
    assert judge(facts, KEEP).condemned == (1, 2)


def test_images_whose_rows_are_gone() -> None:
    gone = [
        DiscardedFact(REPOSITORY, f"sha256:{9:064x}", LONG_AGO),
        DiscardedFact(REPOSITORY, f"sha256:{8:064x}", NOW),
        DiscardedFact("gantry/aarch64-raspios", f"sha256:{7:064x}", LONG_AGO),
        # Built again since: it is judged by its row.
        DiscardedFact(REPOSITORY, f"sha256:{5:064x}", LONG_AGO),
    ]
    facts = five(discarded=gone)
    assert [reasons(facts, each) for each in (9, 8, 7, 5)] == [
        (),
        (Reason.YOUNG,),
        (Reason.PLATFORM,),
        (Reason.LATEST,),
    ]


IDS = st.integers(1, 8)
SETS = st.sets(IDS)
REPOSITORIES = st.sampled_from([REPOSITORY, f"v2/{'2' * 32}", "gantry/aarch64-supervisor"])


@st.composite
def worlds(draw: st.DrawFn) -> Facts:
    releases = [
        ReleaseFact(
            number,
            draw(st.integers(1, 2)),
            "me/bots",
            f"{number:040x}",
            draw(st.sampled_from(["success", "success", "failed", "running"])),
            NOW - timedelta(days=draw(st.integers(0, 20))),
            draw(st.booleans()),
        )
        for number in draw(SETS)
    ]
    images = [
        ImageFact(
            number,
            draw(REPOSITORIES),
            draw(st.none() | st.integers(1, 5).map(lambda each: f"sha256:{each:064x}")),
            "main",
            tuple(draw(st.sets(IDS, max_size=2))),
        )
        for number in draw(SETS)
    ]
    chosen = {
        name: draw(SETS)
        for name in ("targets", "pinned", "running", "managing", "tagged", "installed")
    }
    return Facts(NOW, releases, images, (), **chosen)


@given(worlds(), st.integers(1, 3), st.integers(0, 10))
def test_nothing_that_is_needed_goes(facts: Facts, number: int, days: int) -> None:
    """Said once more, image by image, and in another way than the rule has it."""
    needs = judge(facts, Keep(number, days))
    gone = {(each.repository, each.digest) for each in needs.images if not each.reasons}
    releases = {each.id: each for each in facts.releases}
    for each in facts.images:
        if (each.repository, each.digest) not in gone:
            continue
        assert not each.repository.startswith("gantry/")
        assert each.id not in facts.installed
        assert each.releases
        for one in each.releases:
            for wanted in (facts.targets, facts.pinned, facts.running, facts.managing):
                assert one not in wanted
            assert one not in facts.tagged
            if one not in releases:
                continue
            of = releases[one]
            assert of.status != "running"
            if not of.is_removed:
                assert of.at <= NOW - timedelta(days=days)
                later = [
                    other
                    for other in facts.releases
                    if other.application == of.application
                    and other.status == "success"
                    and not other.is_removed
                    and other.id > one
                ]
                assert of.status != "success" or len(later) >= number
    # Who loses an image is told so, and nobody else.
    losers = {
        one
        for each in facts.images
        if (each.repository, each.digest) in gone
        for one in each.releases
    }
    marked = {each.id for each in facts.releases if each.is_removed}
    assert set(needs.condemned) == losers - marked

"""What may go of a registry: whatever is in it, nothing that something needs."""

import json

from hypothesis import given
from hypothesis import strategies as st

from gantry.contracts.registry_space import KnownImage, Reason, SpaceReport
from gantry.registry.layout import Blob, Contents, Manifest, Repository, parse_manifest
from gantry.registry.space import Plan, Times, closure, plan, report

DIGESTS = [f"sha256:{each:064x}" for each in range(12)]
NAMES = ("v2/one", "v2/two")
NOW = 1_000_000.0


@st.composite
def registries(draw: st.DrawFn) -> tuple[Contents, list[KnownImage], Times]:
    """Manifests that hold each other and blobs in any way, also such as no registry takes."""
    some = st.sets(st.sampled_from(DIGESTS), max_size=4)
    contents = Contents(
        blobs={each: Blob(100, NOW - draw(st.integers(0, 100))) for each in draw(some | some)}
    )
    for name in NAMES:
        contents.repositories[name] = Repository(set(draw(some)), set(draw(some)))
    places = st.tuples(st.sampled_from(NAMES), st.sampled_from(DIGESTS))
    for place in draw(st.sets(places, max_size=3)):
        contents.removed[place] = NOW - draw(st.integers(0, 100))
    linked = {
        each for repository in contents.repositories.values() for each in repository.manifests
    }
    for digest in linked | {digest for _, digest in contents.removed}:
        subject = draw(st.none() | st.sampled_from(DIGESTS))
        contents.manifests[digest] = Manifest(frozenset(draw(some)), subject)
    why = st.sampled_from([(), (Reason.TARGET,)])
    known = [KnownImage(*place, "x y z", draw(why)) for place in sorted(draw(st.sets(places)))]
    times = Times(NOW, draw(st.integers(0, 50)), draw(st.integers(0, 50)))
    return contents, known, times


def after(contents: Contents, planned: Plan, times: Times) -> Contents:
    """The registry when the manifests that go have gone."""
    left = {
        name: Repository(
            {each for each in repository.manifests if (name, each) not in planned.remove},
            set(repository.layers),
        )
        for name, repository in contents.repositories.items()
    }
    removed = contents.removed | dict.fromkeys(planned.remove, times.now)
    return Contents(contents.blobs, left, removed, contents.manifests, contents.uploads)


@given(registries())
def test_nothing_that_is_needed_goes(made: tuple[Contents, list[KnownImage], Times]) -> None:
    contents, known, times = made
    for _ in range(5):
        planned = plan(contents, known, times)
        wanted = {(each.repository, each.digest) for each in known if each.reasons}
        told = {(each.repository, each.digest) for each in known}
        linked = {
            (name, each)
            for name, repository in contents.repositories.items()
            for each in repository.manifests
        }
        assert set(planned.remove) | planned.keep.keys() == linked
        assert not set(planned.remove) & planned.keep.keys()
        assert not wanted & set(planned.remove)
        for name, digest in wanted & linked:
            parts = closure([digest], contents.manifests)
            assert not parts & planned.sweep
            assert not {(name, each) for each in parts} & set(planned.remove)
        # What the api does not know goes only with what it belonged to.
        for name, digest in set(planned.remove) - told:
            manifest = contents.manifests[digest]
            gone = {each for of, each in contents.removed if of == name}
            assert manifest.subject in gone or any(
                digest in contents.manifests[each].holds for each in gone
            )
        # No blob goes that a manifest holds which is there still, or was there lately.
        lately = {
            digest
            for (_, digest), when in contents.removed.items()
            if times.now - when < times.linger
        }
        held = closure([digest for _, digest in linked] + list(lately), contents.manifests)
        assert not held & planned.sweep
        assert all(
            times.now - contents.blobs[each].modified >= times.grace for each in planned.sweep
        )
        assert planned.sweep | planned.young | planned.waits <= contents.blobs.keys()
        shown = report(contents, known, planned)
        assert SpaceReport.from_json(shown.to_json()) == shown
        assert shown.frees + shown.waits + shown.young <= shown.size
        contents = after(contents, planned, times)


def test_what_a_manifest_holds() -> None:
    document = {
        "config": {"digest": DIGESTS[0]},
        "layers": [{"digest": DIGESTS[1], "size": 1}],
        "annotations": {"base": DIGESTS[2]},
        "subject": {"digest": DIGESTS[3]},
    }
    found = parse_manifest(json.dumps(document).encode())
    assert found.holds == {DIGESTS[0], DIGESTS[1]}
    assert found.subject == DIGESTS[3]
    # Of a kind that nobody knows: whatever looks like a digest is held.
    assert parse_manifest(b"\x00" + DIGESTS[5].encode()).holds == {DIGESTS[5]}
    assert parse_manifest(b'["%s"]' % DIGESTS[6].encode()).holds == {DIGESTS[6]}

"""What goes of the deltas: all that has no room or that nobody can want, and nothing else."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gantry.contracts.delta_space import DeltaReason, DeltaSpace
from gantry.contracts.deltas import DeltaState, ImageReference
from gantry.deltas.server.leaving import Place, Plan, over, place, plan
from gantry.deltas.server.pairs import Pair, Record

OLDEST = 50.0
IMAGES = [
    ImageReference("registry.example.org", "v2/x", f"sha256:{each:064x}") for each in range(5)
]
# Their sizes too: a digest is of one content.
SIZES = {f"sha256:{each:064d}": 10 * (each + 1) for each in range(6)}


def record(src: int, dest: int, digest: str | None, used_at: float = 100.0) -> Record:
    pair = Pair.of([IMAGES[src]], IMAGES[dest])
    size = SIZES.get(digest or "")
    state = DeltaState.READY if digest else DeltaState.WHOLE
    return Record(pair, state, digest, size, used_at=used_at)


@st.composite
def kept(draw: st.DrawFn) -> tuple[list[Record], dict[str, int], set[Place], int]:
    numbers = st.integers(0, len(IMAGES) - 1)
    names = draw(st.sets(st.tuples(numbers, numbers).filter(lambda each: each[0] != each[1])))
    records = [
        record(*each, draw(st.none() | st.sampled_from(sorted(SIZES))), draw(st.floats(0, 100)))
        for each in sorted(names)
    ]
    records.sort(key=lambda each: each.used_at)
    # Some files were lost, some are of another size, some are nobody's.
    stored = {
        each: SIZES[each] + draw(st.sampled_from([0, 0, 0, 1]))
        for each in draw(st.sets(st.sampled_from(sorted(SIZES))))
    }
    gone = {place(IMAGES[each]) for each in draw(st.sets(numbers, max_size=2))}
    return records, stored, gone, draw(st.integers(0, 150))


def carried_out(
    planned: Plan, records: list[Record], stored: dict[str, int]
) -> tuple[list[Record], dict[str, int]]:
    left = [each for each in records if each.pair.name not in planned.pairs]
    return left, {each: size for each, size in stored.items() if each not in planned.files}


@given(kept())
def test_what_is_left_is_whole_wanted_and_has_room(
    made: tuple[list[Record], dict[str, int], set[Place], int],
) -> None:
    records, stored, gone, limit = made
    planned = plan(records, stored, gone, oldest=OLDEST, limit=limit)
    left, files = carried_out(planned, records, stored)
    ready = [each for each in left if each.state is DeltaState.READY]
    assert {each.digest for each in ready} == files.keys()
    assert all(files[each.digest or ""] == each.size for each in ready)
    assert sum(files.values()) <= limit
    for each in left:
        assert each.used_at >= OLDEST
        assert not {place(image) for image in each.pair.images} & gone
    # What it says is what it does, and there is nothing more to do then.
    before, after = planned.told(is_done=False), planned.told(is_done=True)
    assert before.frees == after.freed == sum(stored.values()) - sum(files.values())
    assert after.size == sum(files.values())
    assert (after.count, after.removed) == (len(ready), before.goes)
    again = plan(left, files, gone, oldest=OLDEST, limit=limit)
    assert (again.leaving, again.forgotten) == ((), ())
    assert (again.count, again.size) == (after.count, after.size)
    assert DeltaSpace.from_json(after.to_json()) == after


@given(kept())
def test_what_goes_has_a_reason(
    made: tuple[list[Record], dict[str, int], set[Place], int],
) -> None:
    records, stored, gone, limit = made
    planned = plan(records, stored, gone, oldest=OLDEST, limit=limit)
    for each in planned.leaving:
        match each.reason, each.record:
            case DeltaReason.IMAGE, Record(pair=pair):
                assert {place(image) for image in pair.images} & gone
            case DeltaReason.UNUSED, Record(used_at=used_at):
                assert used_at < OLDEST
            case DeltaReason.ROOM, Record(used_at=used_at):
                # Whatever was used longer ago went too.
                names = set(planned.pairs)
                for other in records:
                    if other.state is DeltaState.READY and other.used_at < used_at:
                        assert other.pair.name in names
            case DeltaReason.STRAY, None:
                assert each.digest in stored
            case _:
                raise AssertionError(each)


def test_a_file_of_two_pairs_goes_with_the_last() -> None:
    name = sorted(SIZES)[2]
    one, two = record(0, 1, name), record(0, 2, name, 20.0)
    planned = plan([two, one], {name: 30}, (), oldest=OLDEST, limit=100)
    assert (planned.files, planned.pairs) == ([], [two.pair.name])
    told = planned.told(is_done=False)
    assert (told.count, told.goes, told.size, told.frees) == (2, 1, 30, 0)
    both = plan([two, one], {name: 30}, {place(IMAGES[1])}, oldest=OLDEST, limit=100)
    told = both.told(is_done=True)
    assert (told.count, told.removed, told.size, told.freed) == (0, 2, 0, 30)
    assert [(each.size, each.reason) for each in told.deltas] == [
        (0, "nobody wanted it for long"),
        (30, "an image of it goes, or is gone"),
    ]
    assert told.deltas[1].src == (f"v2/x@{IMAGES[0].digest}",)
    assert told.deltas[1].dest == f"v2/x@{IMAGES[1].digest}"


def test_room_is_made_by_the_longest_unused_and_never_by_the_new_one() -> None:
    names = sorted(SIZES)
    ready = [record(0, each + 1, names[each], 60.0 + each) for each in range(4)]
    assert over(ready, 100) == []
    assert over(ready, 99) == ready[:1]
    assert over(ready, 69) == ready[:3]
    new = replace(ready[0], used_at=60.0)
    assert over(ready, 99, new.pair.name) == ready[1:2]
    assert over(ready, 0, new.pair.name) == ready[1:]

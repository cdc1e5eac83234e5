"""What a push asks of the branches."""

import pytest

from gantry.git.refs import PushRefusedError, RefUpdate, parse_updates, plan_push

ZERO, ONE, TWO = "0" * 40, "1" * 40, "2" * 40
MAIN, MASTER = "refs/heads/main", "refs/heads/master"


def test_lines_of_the_hook() -> None:
    updates = parse_updates([f"{ZERO} {ONE} {MAIN}\n", f"{ONE} {ZERO} refs/tags/v 1\n"])
    assert updates == [RefUpdate(ZERO, ONE, MAIN), RefUpdate(ONE, ZERO, "refs/tags/v 1")]
    assert (updates[0].is_create, updates[0].is_delete, updates[0].short) == (True, False, "main")
    assert (updates[1].is_create, updates[1].is_delete) == (False, True)


def test_a_line_that_is_none() -> None:
    with pytest.raises(ValueError, match="not a line of pre-receive"):
        parse_updates(["x\n"])


@pytest.mark.parametrize("ref", [MAIN, MASTER])
def test_main_and_master_build(ref: str) -> None:
    update = RefUpdate(ZERO, ONE, ref)
    assert plan_push([update], []).build == update
    assert plan_push([update], []).notes == ()


def test_other_refs_are_stored() -> None:
    updates = [RefUpdate(ZERO, ONE, f"refs/{name}") for name in ("heads/x", "tags/v1", "notes/n")]
    plan = plan_push(updates, [])
    assert plan.build is None
    assert plan.notes == ("stored, not built: x, v1, refs/notes/n (main and master are built).",)


def test_the_listing_is_short() -> None:
    updates = [RefUpdate(ZERO, ONE, f"refs/tags/{number}") for number in range(3000)]
    assert len(plan_push(updates, []).notes[0]) < 100


def test_deleting_other_refs_says_nothing() -> None:
    plan = plan_push([RefUpdate(ONE, ZERO, "refs/heads/x")], [MAIN])
    assert (plan.build, plan.notes) == (None, ())


def test_main_before_master() -> None:
    main, master = RefUpdate(ZERO, ONE, MAIN), RefUpdate(ZERO, TWO, MASTER)
    plan = plan_push([master, main], [])
    assert plan.build == main
    assert plan.notes[0] == "main and master came together: main is built, master is stored only."


def test_main_and_master_alike_are_one_build() -> None:
    plan = plan_push([RefUpdate(ZERO, ONE, MASTER), RefUpdate(ZERO, ONE, MAIN)], [])
    assert plan.build == RefUpdate(ZERO, ONE, MAIN)
    assert plan.notes == ()


def test_the_last_built_branch_stays() -> None:
    with pytest.raises(PushRefusedError, match="main cannot be deleted"):
        plan_push([RefUpdate(ONE, ZERO, MAIN)], [MAIN])
    with pytest.raises(PushRefusedError, match="main cannot be deleted"):
        plan_push([RefUpdate(ONE, ZERO, MAIN), RefUpdate(ONE, ZERO, MASTER)], [MAIN, MASTER])


def test_master_may_go_where_main_is() -> None:
    delete = RefUpdate(ONE, ZERO, MASTER)
    assert plan_push([delete], [MAIN, MASTER]).build is None
    create = RefUpdate(ZERO, ONE, MAIN)
    assert plan_push([delete, create], [MASTER]).build == create

"""Steps from what is and what is wanted."""

from dataclasses import replace

import pytest

from gantry.deployment.engine.plan import (
    Change,
    Op,
    Verdict,
    dependents,
    differences,
    order,
    plan,
    removal,
)
from gantry.deployment.engine.state import Resource
from gantry.deployment.engine.values import UNKNOWN, EngineError, secret

OLD = Resource("urn:pulumi:s::p::docker:index/network:Network::net", "docker:index/network:Network")
OLD = replace(OLD, id="1", inputs={"name": "a"})
NEW = replace(OLD, id="", inputs={"name": "b"})


def test_nothing_before_is_a_create() -> None:
    assert plan(None, NEW, Verdict(True)).op is Op.CREATE


def test_provider_decides_between_same_update_and_replace() -> None:
    assert plan(OLD, OLD, Verdict(False)).op is Op.SAME
    assert plan(OLD, NEW, Verdict(True)).op is Op.UPDATE
    step = plan(OLD, NEW, Verdict(True, ("name",), True))
    assert (step.op, step.replaces, step.delete_first) == (Op.REPLACE, ("name",), True)
    assert step.changes == (Change("name", "a", "b"),)


def test_program_has_the_last_word_on_the_order() -> None:
    step = plan(OLD, NEW, Verdict(True, ("name",), True), delete_first=False)
    assert (step.op, step.delete_first) == (Op.REPLACE, False)


def test_what_was_made_badly_or_half_is_seen_to() -> None:
    unwell = replace(OLD, init_errors=("not healthy",))
    assert plan(unwell, OLD, Verdict(False)).op is Op.UPDATE
    half = replace(OLD, pending_replacement=True)
    assert plan(half, OLD, Verdict(True)).op is Op.REPLACE
    assert removal(half).op is Op.FORGET


def test_protection() -> None:
    kept = replace(OLD, protect=True)
    with pytest.raises(EngineError, match="docker:Network net is protected, and a change of name"):
        plan(kept, NEW, Verdict(True, ("name",)))
    with pytest.raises(EngineError, match="would be deleted"):
        removal(kept)
    assert removal(replace(OLD, retain_on_delete=True)).op is Op.FORGET


def _resource(name: str, **needs: list[str]) -> Resource:
    used = {key: [f"u::{n}" for n in names] for key, names in needs.items()}
    return Resource(f"u::{name}", "docker:index/container:Container", property_dependencies=used)


def test_order_puts_needs_first() -> None:
    a, b, c = _resource("a", x=["b"]), _resource("b", x=["c"]), _resource("c")
    assert [r.name for r in order([a, b, c])] == ["c", "b", "a"]


def test_dependents_are_those_that_cannot_stay() -> None:
    net = _resource("net")
    service = _resource("service", networks=["net"])
    sidecar = _resource("sidecar", networks=["service"])
    stays = _resource("stays", wait=["net"])
    found = dependents("u::net", [net, service, sidecar, stays], lambda _, key: key != "wait")
    assert [r.name for r in found] == ["sidecar", "service"]


def test_differences_go_to_the_property() -> None:
    old = {"a": {"b": [1, 2]}, "gone": 1, "s": secret("x")}
    new = {"a": {"b": [1, 3]}, "s": secret("y"), "u": UNKNOWN}
    paths = [change.path for change in differences(old, new)]
    assert paths == ["a.b[1]", "s", "u", "gone"]
    assert differences({"u": UNKNOWN}, {"u": UNKNOWN})


def test_blocks_of_a_list_are_told_apart_by_their_names() -> None:
    tun, card = (
        {"hostPath": "/dev/net/tun", "containerPath": "/dev/net/tun"},
        {
            "hostPath": "/dev/dri/card1",
            "containerPath": "/dev/dri/card0",
        },
    )
    assert differences({"devices": [card]}, {"devices": [tun, card]}) == (
        Change("devices[/dev/net/tun]", None, tun),
    )
    (other,) = differences([tun, card], [tun, card | {"hostPath": "/dev/dri/card2"}], "devices")
    assert other == Change("devices[/dev/dri/card0].hostPath", "/dev/dri/card1", "/dev/dri/card2")
    # What differs in its order alone is told whole, and so is what has two of one name.
    assert [each.path for each in differences([tun, card], [card, tun], "devices")] == ["devices"]
    both = [{"internal": 53, "protocol": each} for each in ("tcp", "udp")]
    assert [each.path for each in differences(both, both[:1], "ports")] == ["ports"]
    assert [each.path for each in differences([UNKNOWN], ["a", "b"], "dns")] == ["dns"]
    assert differences(["A"], ["A", "B"], "adds") == (Change("adds[B]", None, "B"),)

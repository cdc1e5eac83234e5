"""How a release by bundle and the api's target go together."""

from dataclasses import replace
from typing import Any

import pytest

from gantry.supervisor.offline import OfflineRelease, named_commit, overlay

UUID, APP = "d" * 32, "a" * 32


def app(commit: str | None, **environment: str) -> dict[str, Any]:
    service = {"id": 1, "image_id": 1, "image": f"r/v2/{commit}", "environment": environment}
    release = {"id": 1, "services": {"main": service}}
    return {"id": 7, "name": "bots", "releases": {commit: release} if commit else {}}


def target(*apps: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {UUID: {"name": "x", "config": {"A": "1"}, "apps": dict(apps)}}


HELD = OfflineRelease(APP, 7, "new", app("new", A="fleet's", B="b"), False, "old")


@pytest.mark.parametrize(
    ("document", "over", "holds"),
    [
        (target((APP, app("old"))), "old", True),  # the api says what it said before
        (target((APP, app("new"))), "old", False),  # it names the release
        (target((APP, app("newer"))), "old", False),  # it has gone on
        (target((APP, app(None))), "old", False),
        (target((APP, app(None))), None, True),  # it never named one
        (target(), None, True),
        (target(("7", app("old"))), "old", True),  # preloaded in the oldest form
        (target(("e" * 32, app("old"))), "old", False),  # the device has moved
        (target(("e" * 32, app("old"))), None, False),
    ],
)
def test_until_when_it_holds(document: dict[str, Any], over: str | None, holds: bool) -> None:
    found = overlay(document, UUID, replace(HELD, over=over))
    assert (found is not None) == holds
    if found is not None:
        assert set(found[UUID]["apps"]) == {APP}
        assert named_commit(found[UUID]["apps"][APP]) == "new"
        assert found[UUID]["config"] == {"A": "1"}


def test_other_applications_are_left_as_they_are() -> None:
    document = target((APP, app("old")), ("b" * 32, app("other")))
    found = overlay(document, UUID, HELD)
    assert found is not None
    assert found[UUID]["apps"]["b" * 32] == app("other")


@pytest.mark.parametrize(("for_device", "value"), [(False, "device's"), (True, "fleet's")])
def test_whose_variables_count(for_device: bool, value: str) -> None:
    document = target((APP, app("old", A="device's", C="c")))
    found = overlay(document, UUID, replace(HELD, for_device=for_device))
    assert found is not None
    service = found[UUID]["apps"][APP]["releases"]["new"]["services"]["main"]
    expected = {"A": value, "B": "b"} | ({} if for_device else {"C": "c"})
    assert service["environment"] == expected

"""What a run tells: the registry's report, and the delta server's part of it."""

import json

from gantry.api.services.registry_space import short
from gantry.contracts.delta_space import DeltaSpace, LeavingDelta
from gantry.contracts.registry_space import ImageSpace, RepositorySpace, SpaceReport

IMAGES = (ImageSpace("sha256:a", "me/bots main abc", 7), ImageSpace("sha256:b", "", 8, ("why",)))
DELTAS = DeltaSpace(2, 30, 1, 10, deltas=(LeavingDelta(("v2/x@sha256:a",), "y", 10, "why"),))
REPORT = SpaceReport(
    size=15, repositories=(RepositorySpace("v2/x", "me/bots main", 15, 7, IMAGES),), deltas=DELTAS
)


def test_a_report_comes_back_from_the_database() -> None:
    assert SpaceReport.from_json(json.loads(json.dumps(REPORT.to_json()))) == REPORT
    # One of a run from before deltas were told of.
    old = {name: value for name, value in REPORT.to_json().items() if name != "deltas"}
    assert SpaceReport.from_json(old).deltas is None


def test_the_images_that_go_are_those_without_a_reason() -> None:
    assert REPORT.going == [("v2/x", "sha256:a")]


def test_a_list_of_runs_has_figures_alone() -> None:
    told = short(json.loads(json.dumps(REPORT.to_json())))
    assert told is not None
    assert not any(isinstance(each, list) for each in (*told.values(), *told["deltas"].values()))
    found = SpaceReport.from_json(told)
    assert (found.size, found.repositories) == (15, ())
    assert found.deltas == DeltaSpace(2, 30, 1, 10)
    assert short(None) is None
    old = short({"size": 7, "repositories": []})
    assert old == {"size": 7}
    away = short(SpaceReport(deltas=DeltaSpace(error="away")).to_json())
    assert SpaceReport.from_json(away or {}).deltas == DeltaSpace(error="away")

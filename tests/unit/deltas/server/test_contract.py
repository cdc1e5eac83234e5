"""Questions and answers survive the way over the wire, and what is not as agreed is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gantry.contracts.delta_space import DeltaSpace, LeavingDelta, asked_look, look_question
from gantry.contracts.deltas import (
    DeltaAnswer,
    DeltaContractError,
    DeltaPair,
    DeltaState,
    Figures,
    ImageReference,
    PairFigures,
    WantedPair,
    WantedPairs,
    asked_figures,
    figures_question,
)

DIGEST = "sha256:" + "a" * 64
IMAGE = f"registry.devbots.gantry.internal:8443/v2/0123@{DIGEST}"
numbers = st.none() | st.integers(0, 2**63 - 1)


@given(numbers, numbers, st.none() | st.text(min_size=1, max_size=50))
def test_answers_go_and_come(size: int | None, whole: int | None, reason: str | None) -> None:
    answer = DeltaAnswer(DeltaState.WHOLE, size=size, whole=whole, reason=reason)
    assert DeltaAnswer.from_json(json.loads(json.dumps(answer.to_json()))) == answer


def test_what_is_due_is_told_also_when_it_is_nothing() -> None:
    working = DeltaAnswer(DeltaState.WORKING, retry_after=5)
    assert working.to_json() == {"state": "working", "percent": None, "retry_after": 5}
    whole = DeltaAnswer(DeltaState.WHOLE, reason="too large", whole=7)
    assert whole.to_json() == {"state": "whole", "reason": "too large", "size": None, "whole": 7}


def test_figures_and_what_is_wanted_go_and_come() -> None:
    pair = DeltaPair((IMAGE,), IMAGE)
    figures = Figures((PairFigures((IMAGE,), IMAGE, DeltaState.READY, 1, 2, 3, 4.5),))
    assert Figures.from_json(json.loads(json.dumps(figures.to_json()))) == figures
    assert asked_figures(json.loads(json.dumps(figures_question([pair])))) == (pair,)
    wanted = WantedPairs((WantedPair(pair, 9),))
    assert WantedPairs.from_json(json.loads(json.dumps(wanted.to_json()))) == wanted


@pytest.mark.parametrize(
    ("document", "word"),
    [
        (None, "an answer is None"),
        ({}, "state None"),
        ({"state": "later"}, "state 'later'"),
        ({"state": "ready"}, "without digest, size or url"),
        ({"state": "ready", "digest": "md5:1", "size": 1, "url": "/x"}, "a digest"),
        ({"state": "ready", "digest": DIGEST, "size": -1, "url": "/x"}, "size is -1"),
        ({"state": "ready", "digest": DIGEST, "size": True, "url": "/x"}, "size is True"),
        ({"state": "ready", "digest": DIGEST, "size": 1, "url": "https://x"}, "a path"),
        ({"state": "whole", "reason": 1}, "reason is 1"),
        ({"state": "working", "percent": "1"}, "percent is '1'"),
    ],
)
def test_answers_that_are_none(document: Any, word: str) -> None:
    with pytest.raises(DeltaContractError, match=word):
        DeltaAnswer.from_json(document)


@pytest.mark.parametrize(
    "text",
    [
        "", "busybox", "registry.example.org/a", "registry.example.org/a:latest",
        f"registry.example.org/a@{DIGEST[:-1]}", f"registry.example.org/A@{DIGEST}",
        f"registry.example.org/../a@{DIGEST}", f"registry.example.org/a@{DIGEST}\n",
        f"registry.example.org//a@{DIGEST}", f"https://registry.example.org/a@{DIGEST}",
        f"registry.example.org/{'a' * 600}@{DIGEST}", f"registry.example.org/a@{DIGEST.upper()}",
    ],
)  # fmt: skip
def test_references_that_are_none(text: str) -> None:
    with pytest.raises(DeltaContractError, match="no image by its digest"):
        ImageReference.parse(text)


def test_a_reference_is_its_text() -> None:
    reference = ImageReference.parse(IMAGE)
    assert (reference.name, reference.digest) == ("v2/0123", DIGEST)
    assert str(reference) == IMAGE


@pytest.mark.parametrize(
    "document",
    [{"pairs": [{"src": [], "dest": IMAGE}]}, {"pairs": [{"src": [IMAGE]}]}, {"pairs": 1},
     {"pairs": [{"src": [IMAGE] * 9, "dest": IMAGE}]}, {"pairs": [1] * 1001}, []],
)  # fmt: skip
def test_pairs_that_are_none(document: Any) -> None:
    with pytest.raises(DeltaContractError):
        asked_figures(document)


def test_what_goes_is_told_and_asked() -> None:
    going = {("v2/x", DIGEST), ("gantry/base", "sha256:b")}
    assert asked_look(json.loads(json.dumps(look_question(going)))) == going
    told = DeltaSpace(3, 30, 1, 10, deltas=(LeavingDelta(("a", "b"), "c", 10, "it is old"),))
    assert DeltaSpace.from_json(json.loads(json.dumps(told.to_json()))) == told
    away = DeltaSpace(error="it does not answer")
    assert DeltaSpace.from_json(json.loads(json.dumps(away.to_json()))) == away
    # As lists of runs have it.
    short = {name: value for name, value in told.to_json().items() if name != "deltas"}
    assert DeltaSpace.from_json(short).goes == 1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "going"),
        ({}, "going"),
        ({"going": [1]}, "going"),
        ({"going": ["v2/x"]}, "'v2/x' is no image"),
        ({"going": ["@sha256:a"]}, "is no image"),
    ],
)
def test_a_wrong_look_is_told(document: Any, said: str) -> None:
    with pytest.raises(DeltaContractError, match=said):
        asked_look(document)


@pytest.mark.parametrize("document", [None, 7, [1], {}, DeltaSpace().to_json() | {"size": "x"}])
def test_what_says_nothing_of_deltas_is_told(document: Any) -> None:
    with pytest.raises(DeltaContractError, match="does not say what deltas take"):
        DeltaSpace.from_json(document)

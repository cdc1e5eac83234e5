"""Whatever the text: the parser reads it, or says where it is wrong; nothing else ever happens."""

import contextlib
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.api.errors import NotFoundError
from gantry.api.odata.errors import ODataError
from gantry.api.odata.expressions import read_whole
from gantry.api.odata.options import parse_options
from gantry.api.odata.paths import parse_path
from gantry.api.odata.reader import Reader
from gantry.api.odata.resources import RESOURCES
from tests.odata_texts import (
    SETTINGS,
    conditions,
    expansions,
    expressions,
    faulty,
    fragments,
)

OUT_OF_RANGE = ("too large", "has at most", "NUL", "is not a time")
ALIASES = {"@a": "5", "@b": "'x'"}
OPTIONS = ["$filter", "$orderby", "$expand", "$select", "$top", "$skip", "$count", "$format"]


def check_place(option: str, text: str) -> None:
    """The text is read, or refused with a position in it."""
    refused = None
    try:
        parse_options([(option, text)])
    except ODataError as error:
        refused = error
    assert refused is None or 0 <= refused.position <= len(text)
    assert refused is None or str(refused).startswith(f"{option} is not valid at")


def test_sentences_of_the_grammar_are_read() -> None:
    outcomes: Counter[bool] = Counter()

    @settings(max_examples=400, **SETTINGS)
    @given(expressions)
    def check(text: str) -> None:
        refused = ""
        try:
            read_whole(Reader("$filter", text, ALIASES))
        except ODataError as error:
            refused = str(error)
        outcomes[bool(refused)] += 1
        # What the grammar has and the parser refuses: numbers, times and durations out of range.
        assert not refused or any(each in refused for each in OUT_OF_RANGE), text

    check()
    assert outcomes[False] > outcomes[True]


@settings(max_examples=300, **SETTINGS)
@given(faulty(conditions(RESOURCES["device"])))
def test_faulty_conditions_end_in_a_place(text: str) -> None:
    check_place("$filter", text)


@settings(max_examples=500, **SETTINGS)
@given(st.sampled_from(OPTIONS[:2]), faulty(expressions))
def test_faulty_expressions_end_in_a_place(option: str, text: str) -> None:
    check_place(option, text)


@settings(max_examples=300, **SETTINGS)
@given(faulty(expansions(RESOURCES["device"])))
def test_faulty_expansions_end_in_a_place(text: str) -> None:
    check_place("$expand", text)


@settings(max_examples=500, **SETTINGS)
@given(st.sampled_from(OPTIONS), st.one_of(fragments, st.text()))
def test_any_text_ends_in_a_place(option: str, text: str) -> None:
    check_place(option, text)


@settings(max_examples=500, **SETTINGS)
@given(st.sampled_from(["device", "device_tag", "", "nothing"]), st.one_of(fragments, st.text()))
def test_any_path_ends_in_a_place(resource: str, rest: str) -> None:
    with contextlib.suppress(ODataError, NotFoundError):
        parse_path(RESOURCES, f"{resource}({rest}", ALIASES)
    with contextlib.suppress(ODataError, NotFoundError):
        parse_path(RESOURCES, resource + rest, ALIASES)

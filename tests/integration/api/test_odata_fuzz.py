"""Whatever the URL: rows, or 400 with position and reason. Never the server's fault."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gantry.api.odata.resources import RESOURCES
from tests.odata_texts import (
    SETTINGS,
    conditions,
    expansions,
    expressions,
    faulty,
    fragments,
    values,
)

from .conftest import Fleet

# Texts that no URL can hold are the business of the parser's own tests.
sendable = settings(
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    **SETTINGS,
)


def status(fleet: Fleet, path: str, **options: str) -> int:
    """Of a request whose faults must be told with their place."""
    params: dict[str, Any] = {f"${name}": value for name, value in options.items()}
    params |= {"@a": "5", "@b": "'x'"}
    try:
        for text in params.values():
            text.encode()
    except UnicodeEncodeError:
        return 0
    answer = fleet.user.get(f"/v7/{path}", params=params)
    if answer.status_code != 200:
        assert answer.status_code == 400, (options, answer.text)
        assert "is not valid at" in answer.json()["error"], (options, answer.text)
    return answer.status_code


@pytest.mark.parametrize("name", ["device", "application", "release", "image_install"])
def test_conditions_of_the_model(shared_three: Fleet, name: str) -> None:
    seen: Counter[int] = Counter()

    @sendable
    @given(conditions(RESOURCES[name]))
    def check(text: str) -> None:
        seen[status(shared_three, name, filter=text, top="5")] += 1

    check()
    assert seen[200] > 20
    assert seen[400] > 0


@pytest.mark.parametrize("name", ["device", "application"])
def test_expansions_of_the_model(shared_three: Fleet, name: str) -> None:
    seen: Counter[int] = Counter()

    @sendable
    @given(expansions(RESOURCES[name]))
    def check(text: str) -> None:
        seen[status(shared_three, name, expand=text)] += 1

    check()
    assert seen[200] > 20


def test_orders(shared_three: Fleet) -> None:
    @sendable
    @given(st.one_of(conditions(RESOURCES["device"]), values, expressions))
    def check(text: str) -> None:
        status(shared_three, "device", orderby=text)

    check()


def test_values_by_themselves(shared_three: Fleet) -> None:
    """Each kind of value compared with each, calculated with, and in a list."""

    @sendable
    @given(values, st.sampled_from(["eq", "lt", "add", "sub", "mul", "div", "mod"]), values)
    def check(left: str, operator: str, right: str) -> None:
        status(shared_three, "device", filter=f"{left} {operator} {right} ne null")
        status(shared_three, "device", filter=f"{left} in ({right},{left})")

    check()


def test_anything_else(shared_three: Fleet) -> None:
    @sendable
    @given(st.one_of(faulty(expressions), expressions, fragments), faulty(fragments))
    def check(condition: str, other: str) -> None:
        status(shared_three, "device", filter=condition)
        status(shared_three, "device", orderby=condition)
        status(shared_three, "device", expand=other)
        status(shared_three, "device", select=other)

    check()

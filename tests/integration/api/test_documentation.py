"""What docs/api.md shows as examples, sent to a real api."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Fleet

PAGE = Path(__file__).parents[3] / "docs" / "api.md"
ANYTHING = "\0anything"


def examples() -> Iterator[tuple[str, str, Any, int, Any]]:
    """Method, path, body, status and answer of each example of the page."""
    for block in re.findall(r"```http\n(.*?)```", PAGE.read_text(), re.S):
        for example in block.strip().split("\n\n"):
            request, *rest = example.splitlines()
            method, _, path = request.partition(" ")
            *bodies, answer = rest
            status, _, said = answer.removeprefix("→ ").partition(" ")
            yield method, path, "\n".join(bodies), int(status), said


def parsed(text: str, names: dict[str, int]) -> Any:
    for name, number in names.items():
        text = text.replace(name, str(number))
    return json.loads(text.replace("…", json.dumps(ANYTHING))) if text else None


def same(wanted: Any, found: Any) -> bool:
    """Whether they are equal, but for what stands for anything."""
    if wanted == ANYTHING:
        return found not in (None, "")
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(same(wanted[k], found[k]) for k in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(same, wanted, found))
    return bool(wanted == found)


def test_the_examples_of_the_page_answer_as_it_says(fleet: Fleet) -> None:
    device = fleet.register(device_name="printer")
    names = {"DEVICE": device.id, "FLEET": fleet.id}
    sent = 0
    for method, path, body, status, said in examples():
        for name, number in names.items():
            path = path.replace(name, str(number))
        content = parsed(body, names)
        options = {} if content is None else {"json": content}
        answer = fleet.user.request(method, path, **options)
        assert answer.status_code == status, (method, path, answer.text)
        wanted = parsed(said, names)
        if wanted is not None:
            assert same(wanted, answer.json()), (method, path, answer.text)
        sent += 1
    assert sent >= 10


@pytest.mark.parametrize(
    ("wanted", "found", "holds"),
    [
        ({"a": ANYTHING}, {"a": 1}, True),
        ({"a": ANYTHING}, {"a": None}, False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, ANYTHING], [1, 2], True),
        ([1], [1, 2], False),
    ],
)
def test_answers_are_compared(wanted: Any, found: Any, holds: bool) -> None:
    assert same(wanted, found) is holds

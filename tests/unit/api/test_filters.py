"""Texts of the query language that parse, and where wrong ones are wrong."""

import pytest
from odata_query import ast

from gantry.api.odata.errors import ODataError
from gantry.api.odata.filters import parse_filter
from gantry.api.odata.options import Order, parse_options
from gantry.api.odata.paths import parse_path
from gantry.api.odata.resources import RESOURCES


@pytest.mark.parametrize(
    ("text", "members"),
    [("id in (1)", 1), ("id in ( 1 )", 1), ("id in (1,2)", 2), ("id in ((1))", 1)],
)
def test_lists_of_one_are_lists(text: str, members: int) -> None:
    tree = parse_filter(text).tree
    assert isinstance(tree.comparator, ast.In)
    assert len(tree.right.val) == members


@pytest.mark.parametrize(
    "text",
    ["a/any(d:d/b/c/any(e:e/id eq 1))", "a/" * 3000 + "a eq 1", "(" * 4000 + "a" + ")" * 4000],
)
def test_what_the_grammar_cannot_do_is_the_callers_fault(text: str) -> None:
    try:
        tree = parse_filter(text).tree
    except ODataError:
        return
    assert tree is not None


@pytest.mark.parametrize(
    ("text", "position"),
    [("id eq", 3), ("id eq ", 6), ("id ~ 5", 3), ("", 0), ("(id eq 1", 8), ("unheard(id)", 0)],
)
def test_the_place_of_a_fault(text: str, position: int) -> None:
    with pytest.raises(ODataError) as caught:
        parse_filter(text)
    assert caught.value.position == position


def test_options_nest() -> None:
    options = parse_options(
        [
            ("$select", "id, uuid"),
            ("$expand", "a($select=x;$expand=b($top=2;$filter=n eq 'a;b,(c)')),c"),
            ("$orderby", "a/b desc,c"),
            ("$top", "5"),
            ("apikey", "no option"),
        ]
    )
    assert options.select == ("id", "uuid")
    assert options.orderby == (Order(("a", "b"), True), Order(("c",), False))
    assert options.top == 5
    assert options.expand["c"].expand == {}
    inner = options.expand["a"].expand["b"]
    assert inner.top == 2
    assert inner.filter is not None
    assert inner.filter.text == "n eq 'a;b,(c)'"


def test_expansions_have_a_depth() -> None:
    text = "a"
    for _ in range(10):
        text = f"a($expand={text})"
    with pytest.raises(ODataError, match="levels deep"):
        parse_options([("$expand", text)])


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("device", None),
        ("device(5)", {"id": 5}),
        ("device(uuid='abc')", {"uuid": "abc"}),
        ("application(slug='a/b')", {"slug": "a/b"}),
        ("application( slug = 'o''c' )", {"slug": "o'c"}),
    ],
)
def test_paths(path: str, key: dict[str, object] | None) -> None:
    assert parse_path(RESOURCES, path).key == key


def test_every_navigation_leads_somewhere() -> None:
    for resource in RESOURCES.values():
        for navigation in resource.navigations.values():
            assert navigation.target in RESOURCES
        assert resource.natural_keys <= resource.fields.keys()
        assert not resource.hidden & resource.fields.keys()

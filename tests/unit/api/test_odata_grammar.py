"""Texts of the query language that parse, what they say, and where wrong ones are wrong."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import UniqueConstraint

from gantry.api.errors import NotFoundError
from gantry.api.odata import tree
from gantry.api.odata.errors import ODataError, Place
from gantry.api.odata.expressions import read_whole
from gantry.api.odata.options import Options, parse_options
from gantry.api.odata.paths import parse_path
from gantry.api.odata.reader import Reader
from gantry.api.odata.resources import RESOURCES

HERE = Place("", "", 0)


def parsed(text: str) -> tree.Node:
    return read_whole(Reader("$filter", text))


def written(node: tree.Node) -> str:
    """A tree with all its brackets, to see what binds more tightly."""
    match node:
        case tree.Literal(value=value):
            return repr(value)
        case tree.Path(names=names):
            return "/".join(each.text for each in names)
        case tree.Not(operand=operand):
            return f"not({written(operand)})"
        case tree.Negative(operand=operand):
            return f"-({written(operand)})"
        case tree.Logic(operator=operator, parts=parts):
            return "(" + f" {operator} ".join(map(written, parts)) + ")"
        case tree.Comparison(operator=operator, left=left, right=right):
            return f"({written(left)} {operator} {written(right)})"
        case tree.Arithmetic(operator=operator, left=left, right=right):
            return f"({written(left)} {operator} {written(right)})"
        case tree.In(value=value, members=members):
            return f"({written(value)} in {', '.join(map(written, members))})"
        case tree.Call(name=name, arguments=arguments):
            return f"{name}({', '.join(map(written, arguments))})"
        case tree.Lambda(names=names, quantifier=quantifier, variable=variable, body=body):
            inner = "" if body is None else f"{variable}: {written(body)}"
            return f"{'/'.join(each.text for each in names)}/{quantifier}({inner})"
        case tree.Count(names=names, condition=condition):
            inner = "" if condition is None else f"({written(condition)})"
            return f"{'/'.join(each.text for each in names)}/$count{inner}"
    raise AssertionError(node)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("a eq 1 and b eq 2 or c eq 3", "(((a eq 1) and (b eq 2)) or (c eq 3))"),
        ("a or b and c or d", "(a or (b and c) or d)"),
        ("a add b mul c eq d sub 1 sub 2", "((a add (b mul c)) eq ((d sub 1) sub 2))"),
        ("a gt 1 eq true", "((a gt 1) eq True)"),
        ("not a and b", "(not(a) and b)"),
        ("not (a eq 1)", "not((a eq 1))"),
        ("not(a)", "not(a)"),
        ("not a in (1,2)", "not((a in 1, 2))"),
        ("- a add -5", "(-(a) add -5)"),
        ("-(a)", "-(a)"),
        ("a in ( 'x' , 'y' )", "(a in 'x', 'y')"),
        ("a in (1)", "(a in 1)"),
        ("a in ((1))", "(a in 1)"),
        ("A EQ 1 AND Contains(a,'b')", "((A eq 1) and contains(a, 'b'))"),
        ("a/b/c eq 'it''s'", '(a/b/c eq "it\'s")'),
        ("a/any()", "a/any()"),
        ("a/b/any(x:x/c/all(y:y/d eq x/e))", "a/b/any(x: x/c/all(y: (y/d eq x/e)))"),
        ("a/$count gt 1", "(a/$count gt 1)"),
        ("a/b/$count($filter=c eq 1) gt 1", "(a/b/$count((c eq 1)) gt 1)"),
        ("$it/a eq now()", "($it/a eq now())"),
        ("substring( a , 1 , 2 ) eq 'x'", "(substring(a, 1, 2) eq 'x')"),
        ("order eq 1 or android", "((order eq 1) or android)"),
        ("nothing eq null", "(nothing eq None)"),
    ],
)
def test_what_a_text_means(text: str, meaning: str) -> None:
    assert written(parsed(text)) == meaning


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'it''s'", "it's"),
        ("''", ""),
        ("-5", -5),
        ("9223372036854775807", 2**63 - 1),
        ("1.50", Decimal("1.50")),
        ("1e3", Decimal(1000)),
        ("true", True),
        ("null", None),
        ("2024-05-31", date(2024, 5, 31)),
        ("2024-05-31T12:30Z", datetime(2024, 5, 31, 12, 30, tzinfo=UTC)),
        ("2024-05-31T12:30:00.5+02:00", datetime(2024, 5, 31, 10, 30, 0, 500_000, UTC)),
        ("datetime'2024-05-31T12:30:00.7Z'", datetime(2024, 5, 31, 12, 30, 0, 700_000, UTC)),
        ("12:30", time(12, 30)),
        ("duration'-P1DT2H3M4.5S'", -timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("0f9c0000-0000-4000-8000-000000000000", "0f9c0000-0000-4000-8000-000000000000"),
    ],
)
def test_literals(text: str, value: object) -> None:
    node = parsed(text)
    assert isinstance(node, tree.Literal)
    assert node.value == value


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("id eq", 5),
        ("id eq ", 6),
        ("id ~ 5", 3),
        ("", 0),
        ("(id eq 1", 8),
        ("id eq 1)", 7),
        ("a/any(d d/id eq 1)", 8),
        ("a/all()", 2),
        ("a/some(d:d/id eq 1)", 2),
        ("a/$count($top=1) eq 1", 9),
        ("a has 'x'", 2),
        ("a in ()", 6),
        ("a in 5", 5),
        ("a eq 2024-02-31", 5),
        ("a eq 99999999999999999999", 5),
        ("a eq 1e999", 5),
        ("a eq duration'P1Y'", 5),
        ("a eq duration'P99999D'", 5),
        ("a eq 'open", 5),
        ("a eq '\0'", 5),
        ("a eq 1x", 5),
        ("a eq @b", 5),
        ("a eq NaN and", 12),
        ("f(a,", 4),
        ("a//b", 2),
    ],
)
def test_the_place_of_a_fault(text: str, position: int) -> None:
    with pytest.raises(ODataError) as caught:
        parsed(text)
    assert caught.value.position == position


@pytest.mark.parametrize(
    "text",
    [
        "a/" * 3000 + "a eq 1",
        "(" * 4000 + "a" + ")" * 4000,
        "not " * 500 + "a",
        "-" * 500 + "a",
        "trim(" * 500,
        "a/any(x:" * 500,
        " or ".join(["a"] * 2001),
        f"a in ({','.join('1' * 2001)})",
    ],
)
def test_what_is_too_much_is_refused(text: str) -> None:
    with pytest.raises(ODataError, match=r"levels deep|parts in all"):
        parsed(text)


def test_a_long_chain_is_not_deep() -> None:
    node = parsed(" or ".join(["a"] * 900))
    assert isinstance(node, tree.Logic)
    assert len(node.parts) == 900


def names(found: tuple[tree.Name, ...] | None) -> list[str] | None:
    return None if found is None else [each.text for each in found]


def test_options_nest() -> None:
    options = parse_options(
        [
            ("$select", "id, uuid"),
            (
                "$expand",
                "a($select=x;$expand=b($top=2;$filter=n eq 'a;b,(c)'),d/$count($filter=e eq @e)),c",
            ),
            ("$orderby", "a/b desc,c,a/$count asc"),
            ("$top", "5"),
            ("$count", "true"),
            ("@e", "7"),
            ("apikey", "no option"),
        ]
    )
    assert names(options.select) == ["id", "uuid"]
    keys = [(written(each.value), each.is_descending) for each in options.orderby]
    assert keys == [("a/b", True), ("c", False), ("a/$count", False)]
    assert (options.top, options.skip, options.count) == (5, None, True)
    first, last = options.expand
    assert (first.name.text, last.name.text, last.options) == ("a", "c", Options())
    inner, counted = first.options.expand
    assert inner.options.top == 2
    assert inner.options.filter is not None
    assert written(inner.options.filter) == "(n eq 'a;b,(c)')"
    assert (counted.name.text, counted.is_count) == ("d", True)
    assert counted.options.filter is not None
    assert written(counted.options.filter) == "(e eq 7)"


@pytest.mark.parametrize(
    ("name", "text", "position"),
    [
        ("$select", "id,", 3),
        ("$select", "a/b", 1),
        ("$expand", "a($nothing=1)", 2),
        ("$expand", "a($top=1;$top=2)", 9),
        ("$expand", "a(", 2),
        ("$expand", "a)", 1),
        ("$expand", "a,a", 2),
        ("$expand", "a/b", 2),
        ("$expand", "a/$count($top=1)", 9),
        ("$expand", "a($filter=b eq )", 15),
        ("$expand", "a($format=csv)", 2),
        ("$orderby", "id up", 3),
        ("$orderby", "id;drop", 2),
        ("$top", "-1", 0),
        ("$top", "99999999999", 0),
        ("$skip", "1.5", 1),
        ("$count", "maybe", 0),
        ("$search", "x", 0),
        ("$format", "xml", 0),
    ],
)
def test_the_place_of_a_fault_in_an_option(name: str, text: str, position: int) -> None:
    with pytest.raises(ODataError) as caught:
        parse_options([(name, text)])
    assert caught.value.position == position
    assert str(caught.value).startswith(f"{name} is not valid at")


def test_what_is_given_twice_or_is_too_long_is_refused() -> None:
    with pytest.raises(ODataError, match="given twice"):
        parse_options([("$top", "1"), ("$top", "2")])
    with pytest.raises(ODataError, match="characters in all"):
        parse_options([("$select", "a" * 9_000), ("@x", "b" * 9_000)])
    with pytest.raises(ODataError, match="parts in all"):
        parse_options([("$filter", "a or " * 990 + "a"), ("$orderby", "a," * 990 + "a")])


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
        ("device(id=5)", {"id": 5}),
        ("device(@n)", {"id": 9}),
        ("device(uuid='abc')", {"uuid": "abc"}),
        ("device(uuid=@u)", {"uuid": "u"}),
        ("application(slug='a/b')", {"slug": "a/b"}),
        ("application( slug = 'o''c' )", {"slug": "o'c"}),
        ("device_tag(device=5,tag_key='a,b=c')", {"device": 5, "tag_key": "a,b=c"}),
        ("device_tag(tag_key='a', device=5)", {"device": 5, "tag_key": "a"}),
        ("device/$count", None),
        ("device/$count(5)", {"id": 5}),
        ("device(5)/$count", {"id": 5}),
    ],
)
def test_paths(path: str, key: dict[str, object] | None) -> None:
    found = parse_path(RESOURCES, path, {"@n": "9", "@u": "'u'"})
    assert (found.key, found.is_count) == (key, "$count" in path)


@pytest.mark.parametrize(
    ("path", "position"),
    [
        ("device()", 7),
        ("device(", 7),
        ("device(5", 8),
        ("device(5)x", 9),
        ("device(uuid=5)", 12),
        ("device(id='x')", 10),
        ("device(device_name='x')", 6),
        ("device_tag(device=5)", 10),
        ("device_tag(device=5,device=6)", 10),
        ("device(99999999999999999999)", 7),
        ("device(5,6)", 6),
    ],
)
def test_the_place_of_a_fault_in_a_path(path: str, position: int) -> None:
    with pytest.raises(ODataError) as caught:
        parse_path(RESOURCES, path)
    assert caught.value.position == position


@pytest.mark.parametrize("path", ["", "nothing", "(5)", "device/belongs_to__application", "actors"])
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(NotFoundError):
        parse_path(RESOURCES, path)


def test_every_navigation_leads_somewhere() -> None:
    for resource in RESOURCES.values():
        for navigation in resource.navigations.values():
            assert navigation.target in RESOURCES
        for key in resource.natural_keys:
            assert key <= resource.fields.keys()
        assert not resource.hidden & resource.fields.keys()


def test_every_natural_key_is_unique_in_its_table() -> None:
    """By a constraint or an index: else a key could name several rows."""
    for resource in RESOURCES.values():
        table: Any = resource.model.__table__
        unique = [
            {column.name for column in each.columns}
            for each in (*table.constraints, *table.indexes)
            if isinstance(each, UniqueConstraint) or getattr(each, "unique", False)
        ]
        unique += [{column.name} for column in table.columns if column.unique]
        for key in resource.natural_keys:
            assert set(key) in unique, (resource.name, key)

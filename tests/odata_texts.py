"""Texts of OData's grammar for hypothesis: sentences of it, and sentences with a fault in them."""

from hypothesis import strategies as st

from gantry.api.odata.functions import FUNCTIONS
from gantry.api.odata.resources import RESOURCES
from gantry.api.odata.schema import Resource

# Nothing is written to disk, and every run tries the same.
SETTINGS = {"deadline": None, "derandomize": True, "database": None}

NAVIGATIONS = sorted({name for each in RESOURCES.values() for name in each.navigations})
FIELDS = sorted({name for each in RESOURCES.values() for name in each.fields})
OPERATORS = ["eq", "ne", "gt", "ge", "lt", "le", "and", "or", "add", "sub", "mul", "div", "mod"]
FRAGMENTS = [
    *OPERATORS, "divby", "in", "has", "not ", "-", "(", ")", ",", ";", "/", ":", "'", "''", "=",
    "@a", "$it", "$count", "$count(", "$filter=", "$select=", "$expand=", "$orderby=", "$top=", "*",
    " ", "any(", "all(", "x:", "x/", "desc", "null", "1e400", "-0.0", "\0", "\ud800", "é", "%",
    "12:30", "2024-05-31T12:00:00Z", "duration'P1D'", "duration'P'", "datetime'x'",
    "99999999999999999999",
]  # fmt: skip

_texts = st.text(max_size=8).map(lambda text: "'" + text.replace("'", "''") + "'")
_numbers = st.one_of(
    st.integers(-(2**70), 2**70).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3).map(str),
    st.sampled_from(["0", "1", "-1", "1e300", "1e-300", "2147483648", "9223372036854775807"]),
)
_times = st.one_of(
    st.datetimes().map(lambda each: each.isoformat() + "Z"),
    st.datetimes().map(lambda each: each.isoformat() + "-14:00"),
    st.dates().map(str),
    st.times().map(str),
    st.datetimes().map(lambda each: f"'{each.isoformat()}'"),
)
_durations = st.tuples(st.sampled_from(["", "-"]), st.integers(0, 40_000), st.integers(0, 90)).map(
    lambda each: f"duration'{each[0]}P{each[1]}DT{each[2]}M'"
)
_words = st.sampled_from(["true", "false", "null", "@a", "@b"])
values = st.one_of(_texts, _numbers, _times, _durations, _words)


def _calls(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from([*FUNCTIONS, "unheard"]), st.lists(inner, max_size=3)).map(
        lambda each: f"{each[0]}({','.join(each[1])})"
    )


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    navigations = st.sampled_from(NAVIGATIONS)
    return st.one_of(
        st.tuples(inner, st.sampled_from([*OPERATORS, "divby"]), inner).map(" ".join),
        inner.map(lambda each: f"({each})"),
        inner.map(lambda each: f"not ({each})"),
        inner.map(lambda each: f"-({each})"),
        st.tuples(inner, st.lists(inner, min_size=1, max_size=3)).map(
            lambda each: f"({each[0]}) in ({','.join(each[1])})"
        ),
        _calls(inner),
        st.tuples(navigations, st.sampled_from(["any", "all"]), inner).map(
            lambda each: f"{each[0]}/{each[1]}(x:{each[2]})"
        ),
        navigations.map(lambda each: f"{each}/any()"),
        st.tuples(navigations, inner).map(lambda each: f"{each[0]}/$count($filter={each[1]})"),
        navigations.map(lambda each: f"{each}/$count"),
    )


_paths = st.tuples(
    st.sampled_from(["", "", "x/", "$it/"]),
    st.lists(st.sampled_from(NAVIGATIONS), max_size=2),
    st.sampled_from(FIELDS),
).map(lambda each: each[0] + "/".join([*each[1], each[2]]))

expressions = st.recursive(st.one_of(_paths, values), _compound, max_leaves=12)


@st.composite
def faulty(draw: st.DrawFn, sentences: st.SearchStrategy[str]) -> str:
    """A sentence of which a part is taken out, said twice, or replaced by a piece of another."""
    text = draw(sentences)
    begin = draw(st.integers(0, len(text)))
    end = draw(st.integers(begin, min(len(text), begin + 8)))
    piece = draw(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)))
    return text[:begin] + piece + text[end:]


fragments = st.lists(st.sampled_from([*FRAGMENTS, *NAVIGATIONS[:3], "id"]), max_size=12).map(
    "".join
)


@st.composite
def conditions(draw: st.DrawFn, resource: Resource, depth: int = 2, variable: str = "") -> str:
    """A condition that this resource can have, for the most part: names and kinds go together."""
    prefix = f"{variable}/" if variable else ""
    forms = ["value", "value", "logic", "not"]
    if depth:
        forms += ["lambda", "count", "path", "arithmetic"]
    match draw(st.sampled_from(forms)):
        case "logic":
            sides = [draw(conditions(resource, 0, variable)) for _ in range(2)]
            return f"({draw(st.sampled_from([' and ', ' or '])).join(sides)})"
        case "not":
            return f"not ({draw(conditions(resource, 0, variable))})"
        case "lambda" if resource.navigations:
            name = draw(st.sampled_from(sorted(resource.navigations)))
            target = RESOURCES[resource.navigations[name].target]
            inner = draw(conditions(target, depth - 1, f"v{depth}"))
            quantifier = draw(st.sampled_from(["any", "all"]))
            return f"{prefix}{name}/{quantifier}(v{depth}:{inner})"
        case "count" if resource.navigations:
            name = draw(st.sampled_from(sorted(resource.navigations)))
            target = RESOURCES[resource.navigations[name].target]
            inner = draw(conditions(target, depth - 1))
            return f"{prefix}{name}/$count($filter={inner}) ge {draw(st.integers(0, 3))}"
        case "path" if any(not resource.is_collection(each) for each in resource.navigations):
            names = [each for each in resource.navigations if not resource.is_collection(each)]
            name = draw(st.sampled_from(sorted(names)))
            target = RESOURCES[resource.navigations[name].target]
            field = draw(st.sampled_from(sorted(target.fields)))
            return f"{prefix}{name}/{field} ne null"
        case "arithmetic":
            operator = draw(st.sampled_from(["add", "sub", "mul", "div", "divby", "mod"]))
            return f"{prefix}id {operator} {draw(_numbers)} le {draw(_numbers)}"
        case _:
            name = draw(st.sampled_from(sorted(resource.fields)))
            operator = draw(st.sampled_from(["eq", "ne", "lt", "ge"]))
            return f"{prefix}{name} {operator} {draw(values)}"


@st.composite
def expansions(draw: st.DrawFn, resource: Resource, depth: int = 2) -> str:
    """`$expand` of one navigation, with options."""
    name = draw(st.sampled_from(sorted(resource.navigations)))
    target = RESOURCES[resource.navigations[name].target]
    if draw(st.booleans()):
        return f"{name}/$count($filter={draw(conditions(target, 1))})"
    options = [
        f"$select={draw(st.sampled_from(sorted(target.fields)))}",
        f"$filter={draw(conditions(target, 1))}",
        f"$orderby={draw(st.sampled_from(sorted(target.fields)))} desc",
        f"$top={draw(st.integers(0, 5))}",
        f"$skip={draw(st.integers(0, 5))}",
        "$count=true",
    ]
    if depth and target.navigations:
        options.append(f"$expand={draw(expansions(target, depth - 1))}")
    chosen = draw(st.lists(st.sampled_from(options), min_size=1, unique=True))
    return f"{name}({';'.join(chosen)})"

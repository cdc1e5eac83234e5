"""The query options, taken apart: `$select $filter $expand $orderby $top $skip $count`.

Nested options stand in parentheses, with `;` between them (OData 4.01 ABNF, `expandItem`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from gantry.api.odata.errors import ODataError
from gantry.api.odata.filters import Filter, parse_filter

MAX_DEPTH = 5
MAX_OPTION_LENGTH = 16_384


@dataclass(frozen=True, slots=True)
class Order:
    """One key of `$orderby`: a path of names, from the row on."""

    path: tuple[str, ...]
    descending: bool


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of one collection. `text` keeps the sources, for error messages."""

    select: tuple[str, ...] | None = None
    filter: Filter | None = None
    expand: dict[str, "Options"] = field(default_factory=dict)
    orderby: tuple[Order, ...] = ()
    top: int | None = None
    skip: int | None = None
    count: bool = False
    text: dict[str, str] = field(default_factory=dict)


def parse_options(pairs: Iterable[tuple[str, str]], depth: int = 0) -> Options:
    """The options among a URL's query parameters; those without `$` are not OData's.

    Raises:
        ODataError: an option that is unknown, given twice, or not of its grammar.
    """
    texts: dict[str, str] = {}
    for name, value in pairs:
        if not name.startswith("$"):
            continue
        if name in texts:
            raise ODataError(name, value, 0, "it is given twice")
        if len(value) > MAX_OPTION_LENGTH:
            raise ODataError(name, value, MAX_OPTION_LENGTH, "it is too long")
        texts[name] = value
    unknown = texts.keys() - _OPTIONS
    if unknown:
        name = min(unknown)
        raise ODataError(
            name[:40], texts[name], 0, f"the options are {', '.join(sorted(_OPTIONS))}"
        )
    return Options(
        select=_select(texts["$select"]) if "$select" in texts else None,
        filter=parse_filter(texts["$filter"]) if "$filter" in texts else None,
        expand=_expand(texts["$expand"], depth) if "$expand" in texts else {},
        orderby=_orderby(texts["$orderby"]) if "$orderby" in texts else (),
        top=_number("$top", texts["$top"]) if "$top" in texts else None,
        skip=_number("$skip", texts["$skip"]) if "$skip" in texts else None,
        count=_flag("$count", texts["$count"]) if "$count" in texts else False,
        text=texts,
    )


_OPTIONS = frozenset({"$select", "$filter", "$expand", "$orderby", "$top", "$skip", "$count"})


def _select(text: str) -> tuple[str, ...] | None:
    names = [name for name, _ in _names("$select", text)]
    return None if names == ["*"] else tuple(dict.fromkeys(names))


def _orderby(text: str) -> tuple[Order, ...]:
    orders = []
    for part, position in _split("$orderby", text, ","):
        words = part.split()
        if not words or len(words) > 2 or words[-1] not in ("asc", "desc", words[0]):
            raise ODataError("$orderby", text, position, "use `field`, `field asc` or `field desc`")
        path = tuple(words[0].split("/"))
        if not all(name.isidentifier() for name in path) or len(path) > MAX_DEPTH:
            raise ODataError("$orderby", text, position, "this is not a field's name")
        orders.append(Order(path, len(words) == 2 and words[1] == "desc"))
    return tuple(orders)


def _expand(text: str, depth: int) -> dict[str, Options]:
    if depth >= MAX_DEPTH:
        raise ODataError("$expand", text, 0, f"it goes more than {MAX_DEPTH} levels deep")
    expanded: dict[str, Options] = {}
    for part, position in _split("$expand", text, ","):
        name, bracket, rest = part.partition("(")
        name = name.strip()
        if not name.isidentifier():
            raise ODataError("$expand", text, position, "this is not a navigation's name")
        if name in expanded:
            raise ODataError("$expand", text, position, f"{name} is expanded twice")
        inner: list[tuple[str, str]] = []
        if bracket:
            rest = rest.rstrip()
            if not rest.endswith(")"):
                raise ODataError("$expand", text, position, "its options do not end with `)`")
            inner = _nested(text, position, rest[:-1])
        expanded[name] = parse_options(inner, depth + 1)
    return expanded


def _nested(text: str, position: int, inner: str) -> list[tuple[str, str]]:
    pairs = []
    for option, _ in _split("$expand", inner, ";"):
        name, equals, value = option.partition("=")
        if not equals or not name.strip().startswith("$"):
            raise ODataError("$expand", text, position, f"{option[:40]!r} is not `$option=value`")
        pairs.append((name.strip(), value.strip()))
    return pairs


def _names(option: str, text: str) -> list[tuple[str, int]]:
    names = []
    for part, position in _split(option, text, ","):
        name = part.strip()
        if name != "*" and not name.isidentifier():
            raise ODataError(option, text, position, "this is not a field's name")
        names.append((name, position))
    return names


def _split(option: str, text: str, separator: str) -> list[tuple[str, int]]:
    """The parts between separators that stand in no parentheses and no quotes."""
    parts: list[tuple[str, int]] = []
    depth, start, quoted = 0, 0, False
    for index, character in enumerate(text):
        if character == "'":
            quoted = not quoted
        elif quoted:
            continue
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth < 0:
                raise ODataError(option, text, index, "this `)` closes nothing")
        elif character == separator and depth == 0:
            parts.append((text[start:index], start))
            start = index + 1
    if depth or quoted:
        raise ODataError(option, text, len(text), "a `(` or a quote is not closed")
    parts.append((text[start:], start))
    for part, position in parts:
        if not part.strip():
            raise ODataError(option, text, position, "something is missing here")
    return parts


def _number(option: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ODataError(option, text, 0, "use a whole number from 0 on")
    return int(text)


def _flag(option: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise ODataError(option, text, 0, "use true or false")
    return text == "true"

"""The query options: `$select $filter $expand $orderby $top $skip $count $format`.

Nested options stand in brackets, with `;` between them (`expandItem` of the OData ABNF,
https://docs.oasis-open.org/odata/odata/v4.01/os/abnf/odata-abnf-construction-rules.txt).
Parameters that begin with `@` are aliases of values; all others are not OData's.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from gantry.api.odata.errors import ODataError, Place
from gantry.api.odata.expressions import read_expression, read_name
from gantry.api.odata.reader import Budget, Reader
from gantry.api.odata.tree import Name, Node

MAX_EXPAND_DEPTH = 6
MAX_LENGTH = 16_384
MAX_NUMBER = 2**31

_NUMBER = re.compile(r"\d{1,20}", re.ASCII)
_OPTION = re.compile(r"\$?[a-z]+", re.IGNORECASE)
_FLAG = re.compile(r"(true|false)\b")
_DIRECTION = re.compile(r"(asc|desc)\b", re.IGNORECASE)
_FORMAT = re.compile(r"(json|csv|application/json|text/csv)(?:;.*)?$")


@dataclass(frozen=True, slots=True)
class Order:
    """One key of `$orderby`."""

    value: Node
    is_descending: bool


@dataclass(frozen=True, slots=True)
class Expansion:
    """One navigation of `$expand`: its rows, or (`x/$count`) how many there are."""

    name: Name
    options: "Options"
    is_count: bool


@dataclass(frozen=True, slots=True)
class Options:
    """What is asked of one collection; a `select` of None is all fields but the heavy ones."""

    select: tuple[Name, ...] | None = None
    filter: Node | None = None
    expand: tuple[Expansion, ...] = ()
    orderby: tuple[Order, ...] = ()
    top: int | None = None
    skip: int | None = None
    count: bool = False
    format: str | None = None
    names: frozenset[str] = field(default=frozenset(), compare=False)


def parse_options(pairs: Iterable[tuple[str, str]]) -> Options:
    """The options among a URL's query parameters.

    Raises:
        ODataError: an option that is unknown, given twice, or not of its grammar; options that
            are too long or have too many parts.
    """
    texts: dict[str, str] = {}
    for name, value in pairs:
        if not name.startswith(("$", "@")):
            continue
        if name in texts:
            raise ODataError(name[:40], value, 0, "it is given twice")
        texts[name] = value
        length = sum(len(each) for each in texts.values())
        if length > MAX_LENGTH:
            why = f"the options have more than {MAX_LENGTH} characters in all"
            raise ODataError(name[:40], value, 0, why)
    found, budget = Options(), Budget()
    for name, value in texts.items():
        if name.startswith("$"):
            reader = Reader(name[:40], value, texts, budget)
            plain = _known(name, found, reader.place(), _READERS)
            found = _marked(_READERS[plain](found, reader), plain)
            reader.end()
    return found


def _known(name: str, options: Options, place: Place, readers: "Readers") -> str:
    """An option's name, without `$` as version 4.01 allows."""
    plain = name.lower().removeprefix("$")
    if plain not in readers:
        raise place.error(f"the options here are {', '.join(f'${each}' for each in readers)}")
    if plain in options.names:
        raise place.error(f"${plain} is given twice")
    return plain


def _marked(options: Options, name: str) -> Options:
    return replace(options, names=options.names | {name})


def _select(options: Options, reader: Reader) -> Options:
    names: list[Name] = []
    is_all = False
    while True:
        reader.skip()
        if reader.accept("*"):
            is_all = True
        else:
            names.append(read_name(reader, "a field's name"))
        reader.skip()
        if not reader.accept(","):
            return replace(options, select=None if is_all else tuple(names))


def _filter(options: Options, reader: Reader) -> Options:
    return replace(options, filter=read_expression(reader))


def _orderby(options: Options, reader: Reader) -> Options:
    orders: list[Order] = []
    while True:
        value = read_expression(reader)
        reader.skip()
        direction = reader.match(_DIRECTION)
        orders.append(Order(value, direction is not None and direction[1].lower() == "desc"))
        reader.skip()
        if not reader.accept(","):
            return replace(options, orderby=tuple(orders))


def _expand(options: Options, reader: Reader) -> Options:
    expansions: list[Expansion] = []
    while True:
        name = read_name(reader, "a navigation's name")
        if name.text in {each.name.text for each in expansions}:
            raise name.place.error(f"{name.text} is expanded twice")
        is_count = reader.accept("/$count")
        if not is_count and reader.accept("/"):
            raise reader.error(f"use {name.text}($expand=…), or {name.text}/$count")
        inner = _nested(reader, _COUNTED if is_count else _NESTED)
        expansions.append(Expansion(name, inner, is_count))
        reader.skip()
        if not reader.accept(","):
            return replace(options, expand=tuple(expansions))


def _nested(reader: Reader, readers: "Readers") -> Options:
    options = Options()
    reader.skip()
    if not reader.accept("("):
        return options
    reader.levels += 1
    if reader.levels >= MAX_EXPAND_DEPTH:
        raise reader.error(f"it goes more than {MAX_EXPAND_DEPTH} levels deep")
    while True:
        reader.skip()
        place = reader.place()
        option = reader.match(_OPTION)
        if option is None:
            raise place.error(reader.unexpected("an option belongs here, such as $select=id"))
        name = _known(option[0], options, place, readers)
        reader.expect("=")
        options = _marked(readers[name](options, reader), name)
        reader.skip()
        if not reader.accept(";"):
            break
    reader.expect(")")
    reader.levels -= 1
    return options


def _number(name: str) -> Callable[[Options, Reader], Options]:
    def read(options: Options, reader: Reader) -> Options:
        reader.skip()
        place = reader.place()
        found = reader.match(_NUMBER)
        if found is None or int(found[0]) >= MAX_NUMBER:
            raise place.error(f"use a whole number from 0 to {MAX_NUMBER - 1}")
        number = int(found[0])
        return replace(options, top=number) if name == "top" else replace(options, skip=number)

    return read


def _count(options: Options, reader: Reader) -> Options:
    reader.skip()
    found = reader.match(_FLAG)
    if found is None:
        raise reader.error("use true or false")
    return replace(options, count=found[1] == "true")


def _format(options: Options, reader: Reader) -> Options:
    found = reader.match(_FORMAT)
    if found is None:
        raise reader.error("use json or csv")
    return replace(options, format="csv" if found[1].endswith("csv") else "json")


Readers = dict[str, Callable[[Options, Reader], Options]]

_COUNTED: Readers = {"filter": _filter}
_NESTED: Readers = _COUNTED | {
    "select": _select,
    "expand": _expand,
    "orderby": _orderby,
    "top": _number("top"),
    "skip": _number("skip"),
    "count": _count,
}
_READERS: Readers = _NESTED | {"format": _format}

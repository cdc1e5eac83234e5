"""The grammar of expressions: `commonExpr` of the OData ABNF, by precedence climbing.

https://docs.oasis-open.org/odata/odata/v4.01/os/abnf/odata-abnf-construction-rules.txt, and for
the precedence of operators URL Conventions, 5.1.1.9. Operators and functions may be written in
upper case, as version 4.01 allows.
"""

import re

from gantry.api.odata.literals import read_literal
from gantry.api.odata.reader import NAME, Reader
from gantry.api.odata.tree import (
    Arithmetic,
    Call,
    Comparison,
    Count,
    In,
    Lambda,
    Literal,
    Logic,
    Name,
    Negative,
    Node,
    Not,
    Path,
)

_OPERATOR = re.compile(
    r"(or|and|eq|ne|gt|ge|lt|le|add|sub|mul|divby|div|mod|in|has)\b", re.IGNORECASE
)
_NOT = re.compile(r"not(?=[\s(])", re.IGNORECASE)
_ALIAS = re.compile(r"@\w{1,128}")
_IT = "$it"
_LEVELS = (
    ("or",),
    ("and",),
    ("eq", "ne"),
    ("gt", "ge", "lt", "le"),
    ("add", "sub"),
    ("mul", "div", "divby", "mod"),
)
_BINDING = {name: level for level, names in enumerate(_LEVELS, 1) for name in names}
_UNARY, _IN = 7, 8


def read_expression(reader: Reader, binding: int = 0) -> Node:
    """An expression, as far as operators bind more tightly than `binding`.

    Raises:
        ODataError: it is not of the grammar, nested too deep, or has too many parts.
    """
    reader.deeper()
    left = _operand(reader)
    while True:
        start = reader.position
        reader.skip()
        place = reader.place()
        found = reader.match(_OPERATOR)
        operator = found[1].lower() if found else ""
        if operator == "has":
            raise place.error("`has` is not served: no field is an enumeration")
        if not operator or (_IN if operator == "in" else _BINDING[operator]) <= binding:
            reader.position = start
            break
        if operator == "in":
            left = In(left.place, left, _list(reader))
            continue
        right = read_expression(reader, _BINDING[operator])
        left = _joined(operator, left, right)
    reader.depth -= 1
    return left


def read_whole(reader: Reader) -> Node:
    """An expression that is all of the reader's text."""
    tree = read_expression(reader)
    reader.end()
    return tree


def read_name(reader: Reader, what: str) -> Name:
    """A name.

    Raises:
        ODataError: none is next.
    """
    reader.skip()
    place = reader.spend()
    found = reader.match(NAME)
    if found is None:
        raise place.error(reader.unexpected(f"this is not {what}"))
    return Name(found[0], place)


def read_value(reader: Reader) -> Literal:
    """A literal or the alias of one.

    Raises:
        ODataError: something else is next.
    """
    reader.skip()
    place = reader.spend()
    found = _alias(reader) or read_literal(reader)
    if found is None:
        raise place.error(reader.unexpected("a value belongs here, such as 5 or 'text'"))
    return found


def _joined(operator: str, left: Node, right: Node) -> Node:
    level = _BINDING[operator]
    if level > _BINDING["gt"]:
        return Arithmetic(left.place, operator, left, right)
    if level > _BINDING["and"]:
        return Comparison(left.place, operator, left, right)
    # One node for a chain: it is as deep as its deepest part, however long it is.
    parts = left.parts if isinstance(left, Logic) and left.operator == operator else (left,)
    return Logic(left.place, operator, (*parts, right))


def _operand(reader: Reader) -> Node:
    reader.skip()
    place = reader.spend()
    if reader.match(_NOT):
        return Not(place, read_expression(reader, _UNARY))
    literal = _alias(reader) or read_literal(reader)
    if literal is not None:
        return literal
    if reader.accept("-"):
        return Negative(place, read_expression(reader, _UNARY))
    if reader.accept("("):
        inner = read_expression(reader)
        reader.expect(")")
        return inner
    return _member(reader)


def _alias(reader: Reader) -> Literal | None:
    place = reader.place()
    found = reader.match(_ALIAS)
    if found is None:
        return None
    if found[0] not in reader.aliases:
        raise place.error(f"the URL does not say what {found[0]} is: add {found[0]}=value")
    inner = Reader(found[0], reader.aliases[found[0]])
    literal = read_literal(inner)
    if literal is None:
        raise inner.error("an alias stands for a value, such as 5 or 'text'")
    inner.end()
    return literal


def _list(reader: Reader) -> tuple[Node, ...]:
    reader.expect("(")
    members = [read_expression(reader)]
    reader.skip()
    while reader.accept(","):
        members.append(read_expression(reader))
        reader.skip()
    reader.expect(")")
    return tuple(members)


def _member(reader: Reader) -> Node:
    """A call, or a path that ends in a field, `any(…)`, `all(…)` or `$count`."""
    place = reader.place()
    names: list[Name] = []
    while True:
        if names and reader.accept("$count"):
            return Count(place, tuple(names), _counted(reader))
        if not names and reader.accept(_IT):
            name = Name(_IT, place)
        else:
            name = read_name(reader, "an expression")
        if reader.text.startswith("(", reader.position):
            if not names:
                return _call(reader, name)
            return _lambda(reader, tuple(names), name)
        names.append(name)
        if not reader.accept("/"):
            return Path(place, tuple(names))


def _call(reader: Reader, name: Name) -> Node:
    reader.expect("(")
    reader.skip()
    arguments: list[Node] = []
    if not reader.accept(")"):
        arguments.append(read_expression(reader))
        reader.skip()
        while reader.accept(","):
            arguments.append(read_expression(reader))
            reader.skip()
        reader.expect(")")
    return Call(name.place, name.text.lower(), tuple(arguments))


def _lambda(reader: Reader, names: tuple[Name, ...], operator: Name) -> Node:
    quantifier = operator.text.lower()
    if quantifier not in ("any", "all"):
        raise operator.place.error("only any(…), all(…) and $count end a path with brackets")
    reader.expect("(")
    reader.skip()
    variable, body = "", None
    if not reader.accept(")"):
        variable = read_name(reader, "the name of a variable, as in any(d:d/id eq 1)").text
        reader.expect(":")
        body = read_expression(reader)
        reader.expect(")")
    elif quantifier == "all":
        raise operator.place.error("all needs a condition, as in all(d:d/id gt 1)")
    return Lambda(names[0].place, names, quantifier, variable, body)


def _counted(reader: Reader) -> Node | None:
    if not reader.accept("("):
        return None
    reader.skip()
    if reader.accept(")"):
        return None
    if not reader.accept("$filter"):
        raise reader.error("the only option of $count is $filter")
    reader.expect("=")
    condition = read_expression(reader)
    reader.expect(")")
    return condition

"""`$filter`, parsed with odata-query's grammar.

Two things are added to that grammar: a list of one element (`id in (1)`), which it takes for a
bracketed expression, and the position of what is wrong.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from odata_query import ast, exceptions
from odata_query.grammar import ODataLexer, ODataParser
from sly.lex import Token  # type: ignore[import-untyped]

from gantry.api.odata.errors import ODataError

MAX_LENGTH = 8_192


@dataclass(frozen=True, slots=True)
class Filter:
    """A parsed expression and its text."""

    text: str
    tree: Any


def parse_filter(text: str) -> Filter:
    """The expression's tree.

    Raises:
        ODataError: it is not of the grammar, or too long.
    """
    if len(text) > MAX_LENGTH:
        raise ODataError("$filter", text, MAX_LENGTH, "it is too long")
    try:
        tree = ODataParser().parse(_with_single_lists(ODataLexer().tokenize(text)))
    except exceptions.ODataSyntaxError as error:
        token = getattr(error, "token", None)
        position = len(text) if token is None else token.index
        # Operators hold the blanks around them.
        position += len(text[position:]) - len(text[position:].lstrip())
        why = "the expression ends too early" if token is None else "this is not expected here"
        raise ODataError("$filter", text, position, why) from error
    except exceptions.FunctionCallException as error:
        name = getattr(error, "function_name", "")
        raise ODataError("$filter", text, max(text.find(name), 0), str(error)) from error
    # AttributeError: odata-query's own, for a lambda at the end of a longer path; RecursionError:
    # what it does of a path of thousands of names.
    except (
        exceptions.ODataException,
        AttributeError,
        NotImplementedError,
        RecursionError,
        ValueError,
    ) as error:
        raise ODataError("$filter", text, 0, "this form of expression is not served") from error
    if tree is None or not isinstance(tree, ast._Node):
        raise ODataError("$filter", text, len(text), "the expression ends too early")
    return Filter(text, tree)


def _with_single_lists(tokens: Iterator[Any]) -> Iterator[Any]:
    """After `in`, end a list of one element with a comma: odata-query's way to write it."""
    depth = 0
    has_comma = False
    last_in = False
    for token in tokens:
        kind = token.type
        if kind == "(" and last_in and depth == 0:
            depth, has_comma = 1, False
        elif depth:
            if kind == "(":
                depth += 1
            elif kind == "," and depth == 1:
                has_comma = True
            elif kind == ")":
                depth -= 1
                if depth == 0 and not has_comma:
                    yield _comma(token)
        last_in = kind == "IN" or (last_in and kind == "WS")
        yield token


def _comma(before: Any) -> Any:
    token = Token()
    token.type = token.value = ","
    token.lineno, token.index = before.lineno, before.index
    return token

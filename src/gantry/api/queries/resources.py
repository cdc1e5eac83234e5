"""Runs the statements that the resource model's URLs compile to."""

from collections.abc import Callable
from typing import Any, TypeVar

from psycopg.errors import QueryCanceled
from sqlalchemy import Select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from gantry.api.database import STATEMENT_TIMEOUT_MS
from gantry.api.errors import BadRequestError

Found = TypeVar("Found")


def page(session: Session, statement: Select[Any]) -> tuple[list[dict[str, Any]], int | None]:
    """The rows, each a JSON object, and how many there are in all.

    Raises:
        BadRequestError: it takes longer than any statement may.
    """
    rows, count = _timely(lambda: session.execute(statement).one())
    return rows, count


def number(session: Session, statement: Select[Any]) -> int:
    """The one number.

    Raises:
        BadRequestError: it takes longer than any statement may.
    """
    return _timely(lambda: int(session.scalars(statement).one()))


def numbers(session: Session, statement: Select[Any]) -> list[int]:
    """A column of numbers.

    Raises:
        BadRequestError: it takes longer than any statement may.
    """
    return _timely(lambda: list(session.scalars(statement)))


def _timely(run: Callable[[], Found]) -> Found:
    try:
        return run()
    except OperationalError as error:
        if not isinstance(error.orig, QueryCanceled):
            raise
        seconds = STATEMENT_TIMEOUT_MS // 1000
        raise BadRequestError(
            f"the query took longer than {seconds} s: narrow its $filter, or expand less"
        ) from error

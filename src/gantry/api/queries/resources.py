"""Runs the statements that the resource model's URLs compile to."""

from typing import Any

from sqlalchemy import Select
from sqlalchemy.orm import Session


def objects(session: Session, statement: Select[Any]) -> list[dict[str, Any]]:
    """The rows, each a JSON object."""
    return list(session.scalars(statement))


def number(session: Session, statement: Select[Any]) -> int:
    """The one number."""
    return int(session.scalars(statement).one())


def numbers(session: Session, statement: Select[Any]) -> list[int]:
    """A column of numbers."""
    return list(session.scalars(statement))

"""What is the same for rows of any table."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from gantry.api.models import Actor, Application, Base, Device

Model = TypeVar("Model", bound=Base)


def add(session: Session, row: Any) -> int:
    """Store a new row; its id."""
    session.add(row)
    session.flush()
    made: int = row.id
    return made


def by_id(session: Session, model: type[Model], row_id: int) -> Model:
    """A row that is known to be there."""
    return session.get_one(model, row_id)


def maybe(session: Session, model: type[Model], row_id: int) -> Model | None:
    """A row, if it is there."""
    return session.get(model, row_id)


def exists(session: Session, model: Any, values: Mapping[str, Any]) -> bool:
    """Whether a row has these values."""
    return session.scalar(select(model.id).filter_by(**values).limit(1)) is not None


def change(session: Session, model: Any, ids: Sequence[int], values: Mapping[str, Any]) -> None:
    """Set the same values in several rows."""
    if values:
        session.execute(update(model).where(model.id.in_(ids)).values(dict(values)))


def delete(session: Session, model: Any, ids: Sequence[int]) -> None:
    """Remove rows."""
    session.execute(sql_delete(model).where(model.id.in_(ids)))


def delete_with_actors(
    session: Session, model: type[Application] | type[Device], ids: Sequence[int]
) -> None:
    """Remove applications or devices, with their actors and so with their keys."""
    actors = list(session.scalars(select(model.actor).where(model.id.in_(ids))))
    if model is Application:
        inner = select(Device.actor).where(Device.belongs_to__application.in_(ids))
        actors += session.scalars(inner)
    session.execute(sql_delete(model).where(model.id.in_(ids)))
    session.execute(sql_delete(Actor).where(Actor.id.in_(actors)))


def now(session: Session) -> datetime:
    """The database's clock, which all replicas share; the same within a transaction."""
    return session.scalars(select(func.now())).one()

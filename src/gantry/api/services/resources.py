"""The resource model as `/v7` serves it: reads, and changes of what is read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from gantry.api.actors import Actor, ProvisioningActor
from gantry.api.errors import BadRequestError, ForbiddenError, NotFoundError
from gantry.api.odata.compiler import PAGE_LIMIT, Query
from gantry.api.odata.options import Options, parse_options
from gantry.api.odata.paths import Path, parse_path
from gantry.api.odata.resources import RESOURCES
from gantry.api.queries import resources
from gantry.api.services.records import Records
from gantry.api.services.writers import WRITERS

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Page:
    """Rows; `count` of all where asked for, `next_skip` where more follow."""

    rows: list[dict[str, Any]]
    count: int | None = None
    next_skip: int | None = None


class Resources:
    """The resource model for one actor in one transaction."""

    def __init__(self, session: Session, actor: Actor) -> None:
        if isinstance(actor, ProvisioningActor):
            raise ForbiddenError("a provisioning key registers devices, and does nothing else")
        self._session = session
        self._query = Query(RESOURCES, actor)
        self._records = Records(WRITERS, session, actor)

    def read(self, path: str, pairs: Pairs) -> Page | int:
        """Rows, or their number for `…/$count`.

        Raises:
            ODataError: the URL is not of the grammar, or names what does not exist.
            NotFoundError: no such resource, or no such row for this actor.
        """
        place, options = parse_path(RESOURCES, path), parse_options(pairs)
        if place.is_count:
            return self._count(place, options)
        rows = resources.objects(
            self._session, self._query.rows(place.resource, options, place.key)
        )
        if place.key is not None and not rows:
            raise NotFoundError(f"there is no {path[:100]}")
        count = self._count(place, options) if options.count else None
        if len(rows) > PAGE_LIMIT:
            return Page(rows[:PAGE_LIMIT], count, (options.skip or 0) + PAGE_LIMIT)
        return Page(rows, count)

    def create(self, path: str, body: object) -> dict[str, Any]:
        """A new row, as it reads."""
        place = parse_path(RESOURCES, path)
        if place.key is not None or place.is_count:
            raise BadRequestError(f"make new ones at /{place.resource.name}, without a key")
        row_id = self._records.create(place.resource.name, body)
        return resources.objects(
            self._session, self._query.rows(place.resource, Options(), {"id": row_id})
        )[0]

    def update(self, path: str, pairs: Pairs, body: object) -> None:
        """Change the row of a key, or all that a `$filter` names."""
        place, ids = self._chosen(path, pairs)
        self._records.update(place.resource.name, ids, body)

    def delete(self, path: str, pairs: Pairs) -> None:
        """Remove the row of a key, or all that a `$filter` names."""
        place, ids = self._chosen(path, pairs)
        self._records.delete(place.resource.name, ids)

    def _count(self, place: Path, options: Options) -> int:
        return resources.number(
            self._session, self._query.count(place.resource, options, place.key)
        )

    def _chosen(self, path: str, pairs: Pairs) -> tuple[Path, list[int]]:
        place, options = parse_path(RESOURCES, path), parse_options(pairs)
        if place.key is None and options.filter is None:
            raise BadRequestError("changing all rows at once needs a $filter that says which")
        ids = resources.numbers(self._session, self._query.ids(place.resource, options, place.key))
        if place.key is not None and not ids:
            raise NotFoundError(f"there is no {path[:100]}")
        if len(ids) > PAGE_LIMIT:
            raise BadRequestError(f"more than {PAGE_LIMIT} rows at once: narrow the $filter")
        return place, ids

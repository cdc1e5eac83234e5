"""The resource model as `/v7` serves it: reads, and changes of what is read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from gantry.api.actors import Actor, ProvisioningActor
from gantry.api.errors import BadRequestError, ConflictError, ForbiddenError, NotFoundError
from gantry.api.odata.compiler import PAGE_LIMIT, Query, column_names
from gantry.api.odata.options import Options, parse_options
from gantry.api.odata.paths import Path, parse_path
from gantry.api.odata.resources import RESOURCES
from gantry.api.odata.schema import Resource
from gantry.api.queries import resources
from gantry.api.services import audit
from gantry.api.services.records import Records
from gantry.api.services.writers import WRITERS

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Page:
    """Rows; `count` of all where asked for, `following` options of the next page if there is one.

    `columns` are the rows' names in order; `format` is what `$format` says.
    """

    rows: list[dict[str, Any]]
    columns: list[str]
    format: str | None
    count: int | None
    following: dict[str, int] | None


class Resources:
    """The resource model for one actor in one transaction."""

    def __init__(self, session: Session, actor: Actor) -> None:
        if isinstance(actor, ProvisioningActor):
            raise ForbiddenError("a provisioning key registers devices, and does nothing else")
        self._session = session
        self._actor = actor
        self._query = Query(RESOURCES, actor)
        self._records = Records(WRITERS, session, actor)

    def read(self, path: str, pairs: Pairs) -> Page | int:
        """Rows, or their number for `…/$count`. A key that names no row reads as no rows.

        The family's clients tell by the empty list that there is none; a status would be an error
        to them. Changing a row that is not there is one.

        Raises:
            ODataError: the URL is not of the grammar, or names what does not exist.
            NotFoundError: no such resource.
        """
        place, options = _parsed(path, pairs)
        if place.is_count:
            query = self._query.count(place.resource, options, place.key)
            return resources.number(self._session, query)
        rows, count = self._rows(place.resource, options, place.key)
        following = None
        if len(rows) > PAGE_LIMIT:
            following = {"$skip": (options.skip or 0) + PAGE_LIMIT}
            if options.top is not None:
                following["$top"] = options.top - PAGE_LIMIT
        columns = column_names(place.resource, options)
        return Page(rows[:PAGE_LIMIT], columns, options.format, count, following)

    def create(self, path: str, pairs: Pairs, body: object) -> dict[str, Any]:
        """A new row: as it reads, or its id alone with `returnResource=false`."""
        pairs = list(pairs)
        place, options = _parsed(path, pairs)
        if place.key is not None or place.is_count:
            raise BadRequestError(f"make new ones at /{place.resource.name}, without a key")
        _only(options, {"select", "expand"}, "making a row")
        return self._made(place.resource, pairs, options, body)

    def put(self, path: str, pairs: Pairs, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Change the row of a key, or make it with that key; what was made, if it was.

        Raises:
            BadRequestError: no key, or one that the body contradicts.
            NotFoundError: no row has this id: ids are not for clients to choose.
        """
        pairs = list(pairs)
        place, options = _parsed(path, pairs)
        if place.key is None or place.is_count:
            raise BadRequestError(f"PUT needs a key, as in /{place.resource.name}(5)")
        _only(options, {"select", "expand"}, "PUT")
        for name in place.key.keys() & body.keys():
            if body[name] not in (place.key[name], {"__id": place.key[name]}):
                raise BadRequestError(f"{name} is another in the body than in the key")
        rest = {name: value for name, value in body.items() if name not in place.key}
        query = self._query.ids(place.resource, Options(), place.key)
        ids = resources.numbers(self._session, query)
        if ids:
            self._update(place.resource, ids, rest)
            return None
        if "id" in place.key:
            raise NotFoundError(f"there is no {path[:100]}")
        return self._made(place.resource, pairs, options, {**place.key, **rest})

    def update(self, path: str, pairs: Pairs, body: object) -> None:
        """Change the row of a key, or all that a `$filter` names."""
        place, ids = self._chosen(path, pairs)
        self._update(place.resource, ids, body)

    def delete(self, path: str, pairs: Pairs) -> None:
        """Remove the row of a key, or all that a `$filter` names."""
        place, ids = self._chosen(path, pairs)
        # Before: of rows that are gone nothing can be told.
        self._note(audit.Action.DELETE, place.resource, ids)
        self._records.delete(place.resource.name, ids)

    def _update(self, resource: Resource, ids: list[int], body: object) -> None:
        self._records.update(resource.name, ids, body)
        self._note(audit.Action.UPDATE, resource, ids, body)

    def _note(
        self, action: audit.Action, resource: Resource, ids: list[int], body: object = None
    ) -> None:
        changes = body if isinstance(body, dict) else {}
        audit.note(self._session, self._actor, action, resource.model, ids, changes)

    def _rows(
        self, resource: Resource, options: Options, key: Mapping[str, Any] | None
    ) -> tuple[list[dict[str, Any]], int | None]:
        return resources.page(self._session, self._query.page(resource, options, key))

    def _made(
        self,
        resource: Resource,
        pairs: Iterable[tuple[str, str]],
        options: Options,
        body: object,
    ) -> dict[str, Any]:
        try:
            row_id = self._records.create(resource.name, body)
        except ConflictError as error:
            # The family's clients look for this word before they change the row that is there.
            raise ConflictError(f"{error.sentence} (its key is unique)") from error
        self._note(audit.Action.CREATE, resource, [row_id], body)
        if dict(pairs).get("returnResource") == "false":
            return {"id": row_id}
        rows, _ = self._rows(resource, options, {"id": row_id})
        return rows[0]

    def _chosen(self, path: str, pairs: Pairs) -> tuple[Path, list[int]]:
        place, options = _parsed(path, pairs)
        _only(options, {"filter"}, "changing rows")
        if place.is_count:
            raise BadRequestError("a number of rows cannot be changed")
        if place.key is None and options.filter is None:
            raise BadRequestError("changing all rows at once needs a $filter that says which")
        ids = resources.numbers(self._session, self._query.ids(place.resource, options, place.key))
        if place.key is not None and not ids:
            raise NotFoundError(f"there is no {path[:100]}")
        if len(ids) > PAGE_LIMIT:
            raise BadRequestError(f"more than {PAGE_LIMIT} rows at once: narrow the $filter")
        return place, ids


def _parsed(path: str, pairs: Pairs) -> tuple[Path, Options]:
    pairs = list(pairs)
    aliases = {name: value for name, value in pairs if name.startswith("@")}
    return parse_path(RESOURCES, path, aliases), parse_options(pairs)


def _only(options: Options, names: set[str], what: str) -> None:
    """Options that would be passed over are refused: `$top` does not bound a change."""
    others = options.names - names
    if others:
        taken = ", ".join(f"${name}" for name in sorted(names))
        raise BadRequestError(f"{what} takes {taken}, not ${min(others)}")

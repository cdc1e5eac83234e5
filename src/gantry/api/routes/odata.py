"""`/v7/<resource>` and `/v6/<resource>`, which are the same here."""

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Body, Request, Response
from fastapi.responses import JSONResponse

from gantry.api.context import Ctx, CurrentActor
from gantry.api.errors import BadRequestError
from gantry.api.odata import table
from gantry.api.odata.metadata import MEDIA_TYPE, metadata
from gantry.api.odata.resources import RESOURCES
from gantry.api.routes.answers import content
from gantry.api.services.resources import Page, Resources

router = APIRouter(tags=["resources"])

_PATHS = ("/v7/{path:path}", "/v6/{path:path}")


def describe(_: CurrentActor) -> Response:
    """The resources, their fields and navigations, as CSDL XML."""
    return Response(metadata(RESOURCES.values()), media_type=MEDIA_TYPE)


def read(ctx: Ctx, actor: CurrentActor, request: Request, path: str) -> Response:
    """Rows under `d`, as the family has it; or as CSV, by `$format` or the header `Accept`."""
    with ctx.database.snapshot() as session:
        found = Resources(session, actor).read(path, request.query_params.multi_items())
    if not isinstance(found, Page):
        return JSONResponse({"d": found})
    following = None
    if found.following is not None:
        # Names of options may be in upper case; none may be there twice.
        others = [
            (name, value)
            for name, value in request.query_params.multi_items()
            if name.lower() not in found.following
        ]
        query = urlencode([*others, *found.following.items()])
        following = f"{ctx.config.api_url}{request.url.path}?{query}"
    accepted = request.headers.get("accept", "")
    if found.format == "csv" or (found.format is None and accepted.startswith(table.MEDIA_TYPE)):
        return _csv(found, following)
    answer: dict[str, Any] = {"d": found.rows}
    if found.count is not None:
        answer["@odata.count"] = found.count
    if following is not None:
        answer["@odata.nextLink"] = following
    return JSONResponse(answer)


def _csv(page: Page, following: str | None) -> Response:
    """Where the next page begins is in `Link` (RFC 8288)."""
    if page.count is not None:
        raise BadRequestError("CSV has no place for the number of rows: leave out $count")
    headers = {} if following is None else {"Link": f'<{following}>; rel="next"'}
    text = table.to_csv(page.columns, page.rows)
    return Response(text, media_type=table.MEDIA_TYPE, headers=headers)


def create(
    ctx: Ctx,
    actor: CurrentActor,
    request: Request,
    path: str,
    body: Annotated[dict[str, Any], Body()],
) -> JSONResponse:
    """A new row."""
    pairs = request.query_params.multi_items()
    with ctx.database.transaction() as session:
        return JSONResponse(Resources(session, actor).create(path, pairs, body), 201)


def put(
    ctx: Ctx,
    actor: CurrentActor,
    request: Request,
    path: str,
    body: Annotated[dict[str, Any], Body()],
) -> Response:
    """The row of a key, changed or made."""
    pairs = request.query_params.multi_items()
    with ctx.database.transaction() as session:
        made = Resources(session, actor).put(path, pairs, body)
    return _done() if made is None else JSONResponse(made, 201)


def update(
    ctx: Ctx,
    actor: CurrentActor,
    request: Request,
    path: str,
    body: Annotated[dict[str, Any], Body()],
) -> Response:
    """Changed rows."""
    with ctx.database.transaction() as session:
        Resources(session, actor).update(path, request.query_params.multi_items(), body)
    return _done()


def delete(ctx: Ctx, actor: CurrentActor, request: Request, path: str) -> Response:
    """Removed rows."""
    with ctx.database.transaction() as session:
        Resources(session, actor).delete(path, request.query_params.multi_items())
    return _done()


def _done() -> Response:
    return Response("OK", media_type="text/plain")


for _version in ("/v7", "/v6"):
    router.add_api_route(
        f"{_version}/$metadata",
        describe,
        methods=["GET"],
        response_class=Response,
        responses=content(MEDIA_TYPE, "CSDL (OData 4.01)."),
    )
# These $metadata describes, and not the OpenAPI document.
for _path in _PATHS:
    router.add_api_route(_path, read, methods=["GET"], include_in_schema=False)
    router.add_api_route(_path, create, methods=["POST"], include_in_schema=False)
    router.add_api_route(_path, put, methods=["PUT"], include_in_schema=False)
    router.add_api_route(_path, update, methods=["PATCH"], include_in_schema=False)
    router.add_api_route(_path, delete, methods=["DELETE"], include_in_schema=False)

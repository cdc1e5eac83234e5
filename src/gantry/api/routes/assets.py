"""Files of releases: sent as forms, and read as they are."""

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.datastructures import UploadFile

from gantry.api.context import Ctx, CurrentActor
from gantry.api.errors import BadRequestError
from gantry.api.routes.answers import content, failures
from gantry.api.services import assets
from gantry.api.services.resources import Resources

router = APIRouter(tags=["resources"])
_FIELDS = 10


async def create(ctx: Ctx, actor: CurrentActor, request: Request) -> JSONResponse:
    """A new file: a form (`multipart/form-data`) of `release`, `asset_key` and the file `asset`."""
    async with request.form(max_files=1, max_fields=_FIELDS) as form:
        body: dict[str, Any] = dict(form)
        sent = body.get("asset")
        if isinstance(sent, UploadFile):
            kind = sent.content_type or "application/octet-stream"
            body["asset"] = assets.Upload(sent.file, sent.filename or "file", kind)
        pairs = request.query_params.multi_items()

        def store() -> dict[str, Any]:
            with ctx.database.transaction() as session:
                resources = Resources(session, actor)
                if not isinstance(body.get("asset"), assets.Upload):
                    raise BadRequestError(
                        "send a form (multipart/form-data) with `release`, `asset_key` and the "
                        "file `asset`"
                    )
                return resources.create("release_asset", pairs, body)

        return JSONResponse(await run_in_threadpool(store), 201)


def read(ctx: Ctx, actor: CurrentActor, asset_id: int) -> StreamingResponse:
    """The file itself."""
    found = assets.content(ctx.database, actor, asset_id)
    return StreamingResponse(
        found.pieces,
        # Whatever it says that it is, no browser is to show it as a page of the api.
        media_type="application/octet-stream",
        headers={
            "Content-Length": str(found.size),
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(found.filename)}",
            "ETag": f'"{found.checksum}"',
            "X-Content-Type-Options": "nosniff",
        },
    )


_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["release", "asset_key", "asset"],
                    "properties": {
                        "release": {"type": "integer"},
                        "asset_key": {"type": "string"},
                        "asset": {"type": "string", "format": "binary"},
                    },
                }
            }
        },
    }
}
for _version in ("/v7", "/v6"):
    router.add_api_route(
        f"{_version}/release_asset",
        create,
        methods=["POST"],
        status_code=201,
        responses=failures(403, 404, 409),
        openapi_extra=_FORM,
    )
    router.add_api_route(
        f"{_version}/release_asset({{asset_id}})/asset",
        read,
        methods=["GET"],
        response_class=StreamingResponse,
        responses={
            **content("application/octet-stream", "The bytes.", {"format": "binary"}),
            **failures(404),
        },
    )

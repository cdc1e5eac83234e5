"""The HTTP face of the delta server: thin routes over the service."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from gantry.contracts.delta_space import ALL_DELTAS, COLLECT_PATH, LOOK_PATH, asked_look
from gantry.contracts.deltas import (
    DELTA_PATH,
    FIGURES_PATH,
    FILES_PATH,
    MAX_SOURCES,
    MAX_WAIT_SECONDS,
    MEDIA_TYPE,
    DeltaContractError,
    DeltaPair,
    DeltaState,
    ImageReference,
    asked_figures,
)
from gantry.deltas.server.config import Config
from gantry.deltas.server.download import begun, counted, span_of
from gantry.deltas.server.errors import (
    BadRequestError,
    BusyError,
    NotFoundError,
    RangeError,
    RequestError,
    TemporaryError,
)
from gantry.deltas.server.pairs import Pair
from gantry.deltas.server.service import AWAY_SECONDS, Service, running
from gantry.deltas.server.tokens import DELETE
from gantry.gauges import MEDIA_TYPE as METRICS_TYPE

BODY_LIMIT = 4 * 1024**2
# Of images that go there may be very many.
LOOK_LIMIT = 32 * 1024**2


def create_app(config: Config) -> FastAPI:
    """The service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(config) as service:
            app.state.service = service
            yield

    app = FastAPI(
        title="Gantry deltas", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    for kind in (RequestError, TemporaryError, DeltaContractError):
        app.add_exception_handler(kind, _explain)
    _health_routes(app)
    _family_routes(app)
    _delta_routes(app)
    _space_routes(app)
    return app


def _health_routes(app: FastAPI) -> None:
    @app.get("/ping", response_class=PlainTextResponse)
    async def ping() -> str:
        """The service runs."""
        return "OK"

    @app.get("/healthy")
    async def healthy(request: Request) -> Response:
        """Deltas are made and served. Without registry or api those that are there still are."""
        if _service(request).is_healthy:
            return PlainTextResponse("OK")
        return JSONResponse({"message": "a part of the service has ended"}, 503)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        return Response(await _service(request).measure(), media_type=METRICS_TYPE)


def _family_routes(app: FastAPI) -> None:
    @app.get("/api/v3/delta")
    async def family(request: Request) -> Response:
        """As the family's supervisors ask. Their engines do not know our format, so what they are
        to pull is the image itself."""
        service, query = _service(request), request.query_params
        dest = _reference(service.config, query.get("dest", ""))
        names = {dest.name}
        # A device that has nothing says so by a name that is in no registry.
        with contextlib.suppress(DeltaContractError, BadRequestError):
            names.add(_reference(service.config, query.get("src", "")).name)
        # Its token is the registry's, which allows the same.
        service.tokens.check(_authorization(request), names, service.config.registry)
        try:
            is_there = await service.registry.has(dest.name, dest.digest)
        except TemporaryError as error:
            # It asks again then, as if the delta was being made.
            return JSONResponse({"message": str(error)}, 504, {"Retry-After": str(AWAY_SECONDS)})
        if not is_there:
            raise NotFoundError(f"the registry does not have {dest}")
        return JSONResponse({"name": str(dest)})


def _delta_routes(app: FastAPI) -> None:
    @app.get(DELTA_PATH)
    async def delta(request: Request) -> Response:
        """Where a pair stands; it is made, if it is not there."""
        service = _service(request)
        pair, wait = _pair(request), _wait(request)
        service.tokens.check(_authorization(request), pair.repositories)
        answer = await service.ask(pair, wait)
        if answer.state is not DeltaState.WORKING:
            return JSONResponse(answer.to_json())
        return JSONResponse(answer.to_json(), 202, {"Retry-After": str(answer.retry_after)})

    @app.api_route(f"{FILES_PATH}/{{digest}}", methods=["GET", "HEAD"])
    async def file(request: Request, digest: str) -> Response:
        """The delta itself, or the rest of it."""
        service, pair = _service(request), _pair(request)
        service.tokens.check(_authorization(request), pair.repositories)
        record = await service.ready(pair, digest)
        etag, size = f'"{digest}"', record.size or 0
        headers = request.headers
        span = span_of(size, headers.get("Range"), headers.get("If-Range"), etag)
        told = span.headers | {"ETag": etag, "Cache-Control": "private, no-transform"}
        status = 206 if span.is_part else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=told, media_type=MEDIA_TYPE)
        try:
            pieces = await begun(service.storage.read(digest, span.start, span.end))
        except NotFoundError:
            await service.lost(record)
            raise

        def on_last() -> None:
            if span.end == size:
                service.downloaded(record)

        body = counted(pieces, span.end - span.start, service.metrics.sent.inc, on_last)
        return StreamingResponse(body, status, told, MEDIA_TYPE)

    @app.post(FIGURES_PATH)
    async def figures(request: Request) -> Response:
        """What is known of pairs."""
        service = _service(request)
        told = asked_figures(await _json(request))
        asked = [(each, _pair_of(service.config, each)) for each in told]
        names = {name for _, pair in asked for name in pair.repositories}
        service.tokens.check(_authorization(request), names)
        return JSONResponse((await service.figures(asked)).to_json())


def _space_routes(app: FastAPI) -> None:
    """For the fleet's collector; the proxy does not lead here."""

    @app.post(LOOK_PATH)
    async def look(request: Request) -> Response:
        """What is kept, and what would go without these images."""
        service = _service(request)
        service.tokens.check(_authorization(request), {ALL_DELTAS}, action=DELETE)
        going = asked_look(await _json(request, LOOK_LIMIT))
        return JSONResponse((await service.keeper.look(going)).to_json())

    @app.post(COLLECT_PATH)
    async def collect(request: Request) -> Response:
        """Remove what goes now."""
        service = _service(request)
        service.tokens.check(_authorization(request), {ALL_DELTAS}, action=DELETE)
        return JSONResponse((await service.keeper.round()).to_json())


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _authorization(request: Request) -> str | None:
    return request.headers.get("Authorization")


def _pair(request: Request) -> Pair:
    query = request.query_params
    told = DeltaPair(tuple(query.getlist("src")), query.get("dest", ""))
    return _pair_of(_service(request).config, told)


def _pair_of(config: Config, told: DeltaPair) -> Pair:
    """Raises BadRequestError: no images of this registry by their digests, or too many."""
    if not 1 <= len(told.src) <= MAX_SOURCES:
        raise BadRequestError(f"{len(told.src)} images in src: name 1 to {MAX_SOURCES}")
    return Pair.of((_reference(config, each) for each in told.src), _reference(config, told.dest))


def _reference(config: Config, text: str) -> ImageReference:
    reference = ImageReference.parse(text)
    if reference.registry != config.registry:
        raise BadRequestError(
            f"{reference.registry[:100]} is not this fleet's registry: that is {config.registry}"
        )
    return reference


def _wait(request: Request) -> int:
    text = request.query_params.get("wait", "0")
    if not text.isdecimal() or len(text) > 2 or int(text) > MAX_WAIT_SECONDS:
        raise BadRequestError(f"wait={text[:20]!r}: seconds, {MAX_WAIT_SECONDS} at most")
    return int(text)


async def _json(request: Request, limit: int = BODY_LIMIT) -> object:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise BadRequestError(f"a body of over {limit} bytes: ask for fewer at once")
    try:
        return await asyncio.to_thread(json.loads, body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is no JSON: {error!s:.100}") from error


async def _explain(request: Request, error: Exception) -> JSONResponse:
    match error:
        case RequestError():
            said = error
        case TemporaryError():
            said = BusyError(str(error), retry_after=AWAY_SECONDS)
        case _:
            said = BadRequestError(str(error))
    if said.status >= 500:
        print(f"{request.method} {request.url.path}: {said.sentence}", flush=True)
    headers = {}
    if said.retry_after is not None:
        headers["Retry-After"] = str(said.retry_after)
    if said.challenge:
        headers["WWW-Authenticate"] = said.challenge
    if isinstance(said, RangeError):
        headers["Content-Range"] = f"bytes */{said.size}"
    return JSONResponse({"message": said.sentence}, said.status, headers)

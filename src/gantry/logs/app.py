"""The HTTP face of the log service: thin routes over `ingest` and `follow`."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import httpx2
from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.requests import ClientDisconnect

from gantry.logs.access import Access, Action, Caller
from gantry.logs.config import Config
from gantry.logs.errors import BadRequestError, LogsError, RefusedError
from gantry.logs.follow import Form, Readers, Wish
from gantry.logs.ingest import Ingest, Outcome
from gantry.logs.limits import RateLimiter
from gantry.logs.store import Place, Store

HISTORY_LINES = 1000
"""Lines of a history whose length nobody asked for; a stream has none then, as the family's."""

_HEX = frozenset("0123456789abcdef")


class Service:
    """What the routes need, made once from the configuration."""

    def __init__(self, config: Config) -> None:
        token = config.nats_token
        self.client = httpx2.AsyncClient(timeout=10.0)
        self.store = Store(
            config.nats_url,
            token.get_secret_value() if token else None,
            lines=config.retention_lines,
            days=config.retention_days,
            storage_bytes=config.storage_bytes,
        )
        self.access = Access(self.client, config.api_url, config.service_key.get_secret_value())
        self.ingest = Ingest(self.store, self.access, RateLimiter())
        self.readers = Readers(self.store, self.access)


def create_app(config: Config, on_ready: Callable[[Service], None] | None = None) -> FastAPI:
    """The service. `on_ready` is called with its parts once it runs."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service = Service(config)
        app.state.service = service
        tasks = [
            asyncio.create_task(service.store.run(), name="JetStream connection"),
            asyncio.create_task(service.access.listen(), name="revocations"),
        ]
        if on_ready:
            on_ready(service)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await service.client.aclose()

    app = FastAPI(
        title="Gantry logs", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_exception_handler(LogsError, _explain)
    _health_routes(app)
    _device_routes(app)
    _reader_routes(app)
    return app


def _health_routes(app: FastAPI) -> None:
    @app.get("/ping", response_class=PlainTextResponse)
    async def ping() -> str:
        """The service runs."""
        return "OK"

    @app.get("/healthy")
    async def healthy(request: Request) -> Response:
        """Lines can be stored."""
        if _service(request).store.connected:
            return PlainTextResponse("OK")
        return JSONResponse({"error": "JetStream is not connected"}, 503)


def _device_routes(app: FastAPI) -> None:
    @app.post("/device/v2/{uuid}/log-stream")
    async def log_stream(request: Request, uuid: str) -> Response:
        """Lines as NDJSON, stored while they arrive; 201 says that all of them are stored."""
        caller = _caller(request, uuid, Action.WRITE)
        ingest = _service(request).ingest
        try:
            return _stored(await ingest.stream(caller, _encoding(request), request.stream()))
        except ClientDisconnect:
            return Response(status_code=400)  # for nobody: the device is gone

    @app.post("/device/v2/{uuid}/logs")
    async def logs(request: Request, uuid: str) -> Response:
        """Lines as a JSON array."""
        caller = _caller(request, uuid, Action.WRITE)
        ingest = _service(request).ingest
        try:
            return _stored(await ingest.batch(caller, _encoding(request), request.stream()))
        except ClientDisconnect:
            return Response(status_code=400)


def _reader_routes(app: FastAPI) -> None:
    @app.get("/device/v2/{uuid}/logs")
    async def read_logs(
        request: Request,
        uuid: str,
        stream: str = "",
        count: str | None = Query(None),
        start: str | None = Query(None),
        after: str | None = Query(None),
    ) -> Response:
        """A device's lines: as a JSON array, or with `stream=1` followed."""
        caller = _caller(request, uuid, Action.READ)
        form = _form(stream, request.headers.get("Accept", ""))
        if form is Form.SSE:
            after = request.headers.get("Last-Event-ID", after)
        since = None if start is None else _moment(start)
        place = Place(_count(count, since, form), since, _cursor(after))
        return await _service(request).readers.open(Wish(caller, place, form))


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _caller(request: Request, uuid: str, action: Action) -> Caller:
    """Device uuids are 32 or 62 hexadecimal digits; nothing else becomes part of a subject.

    Raises:
        RefusedError: it is no uuid.
    """
    if len(uuid) not in (32, 62) or not _HEX.issuperset(uuid):
        raise RefusedError(404, f"no device {uuid[:80]!r}: a uuid has 32 hexadecimal digits")
    return Caller(uuid, action, request.headers.get("Authorization", ""))


def _encoding(request: Request) -> str:
    return str(request.headers.get("Content-Encoding", "")).strip().lower()


def _stored(outcome: Outcome) -> Response:
    fields = {
        "stored": outcome.stored,
        "duplicates": outcome.duplicates,
        "dropped": outcome.dropped,
    }
    return JSONResponse(fields, 201)


def _form(stream: str, accept: str) -> Form:
    if Form.SSE.value in accept:
        return Form.SSE
    return Form.NDJSON if stream.lower() in ("1", "true", "yes") else Form.JSON


def _count(value: str | None, since: int | None, form: Form) -> int | None:
    """How many lines; None is all.

    Raises:
        BadRequestError: not a number, nor `all`.
    """
    if value is None:
        if since is not None:
            return None
        return HISTORY_LINES if form is Form.JSON else 0
    if value == "all":
        return None
    if not value.isdecimal() or len(value) > 9:
        raise BadRequestError(f"count={value[:40]!r}: a number of lines, or `all`")
    return int(value)


def _cursor(value: str | None) -> int | None:
    """The cursor of the last line that a reader has.

    Raises:
        BadRequestError: it is none of ours.
    """
    if value is None:
        return None
    if not value.isdecimal() or len(value) > 18:
        raise BadRequestError(f"after={value[:40]!r}: the `cursor` of a line")
    return int(value)


def _moment(value: str) -> int:
    """Milliseconds since the epoch, of themselves or of an ISO 8601 time (UTC without a zone).

    Raises:
        BadRequestError: it is neither.
    """
    if value.isdecimal() and len(value) < 16:
        return int(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        form = "milliseconds since 1970 or an ISO 8601 time"
        raise BadRequestError(f"start={value[:40]!r}: {form}") from error
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


async def _explain(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, LogsError):
        raise error
    if error.status >= 500:
        print(f"{request.method} {request.url.path}: {error.sentence}", flush=True)
    headers = {"Retry-After": str(error.retry_after)} if error.retry_after else None
    return JSONResponse({"error": error.sentence}, error.status, headers)

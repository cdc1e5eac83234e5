"""The api as one ASGI application."""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from gantry.api import openapi
from gantry.api.config import Config
from gantry.api.context import Context
from gantry.api.database import Database, reason
from gantry.api.device_lane import DeviceLane
from gantry.api.errors import ApiError
from gantry.api.limits import BodyLimit, Deadline
from gantry.api.metrics import CountingHub, Measured, Metrics
from gantry.api.routes import (
    accounts,
    assets,
    deltas,
    devices,
    family,
    general,
    keys,
    odata,
    registry,
    registry_space,
    second_factor,
    services,
    supervisors,
    vpn,
)
from gantry.api.rules import broken
from gantry.api.services import streams
from gantry.api.services.action_worker import Worker
from gantry.api.services.registry_tokens import TokenSigner
from gantry.api.services.second_factor import SecondFactors
from gantry.api.services.sessions import Sessions
from gantry.api.services.vault import Vault
from gantry.api.threads import Threads
from gantry.api.tunnel import Gate

log = logging.getLogger(__name__)

RETRY_AFTER = {"Retry-After": "5"}


def make_context(config: Config) -> Context:
    """The parts of one api process; nothing is connected yet."""
    url = config.database_url.get_secret_value()
    database = Database(url)
    threads = Threads()
    metrics = Metrics(database)
    sessions = Sessions(config.session_secret.get_secret_value(), config.api_url)
    data_key = config.data_key.get_secret_value()
    return Context(
        config=config,
        database=database,
        threads=threads,
        # psycopg's own connections know no driver part in a URL.
        hub=CountingHub(
            url.replace("postgresql+psycopg://", "postgresql://", 1), threads.are_busy, metrics
        ),
        metrics=metrics,
        sessions=sessions,
        second_factors=SecondFactors(
            database, sessions, Vault(data_key, "second factors"), config.host
        ),
        supervisor_secrets=Vault(data_key, "supervisors"),
        signer=TokenSigner(
            issuer=f"api.{config.host}",
            key_pem=config.token_key_pem.get_secret_value(),
            certificate_pem=config.token_certificate_pem,
        ),
        gate=_gate(config),
        instance=secrets.token_hex(6),
    )


def _gate(config: Config) -> Gate | None:
    key = config.service_keys.vpn
    return None if key is None else Gate(config.vpn_proxy_port, key.get_secret_value())


def create_app(context: Context) -> FastAPI:
    """The application; its database must be prepared."""
    app = interface()
    app.state.context = context
    app.add_middleware(BodyLimit)
    app.add_middleware(DeviceLane, context=context)
    app.add_middleware(Deadline)
    # The last one is the outermost: what is refused for its size is counted too.
    app.add_middleware(Measured, metrics=context.metrics)
    _add_handlers(app)
    return app


def interface() -> FastAPI:
    """The routes alone: enough to describe them, and nothing to serve them with."""
    app = FastAPI(
        title="Gantry api",
        docs_url=None,
        redoc_url=None,
        openapi_url=openapi.PATH,
        lifespan=_lifespan,
    )
    # FastAPI's way to another document (https://fastapi.tiangolo.com/how-to/extending-openapi/).
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    modules = (general, accounts, second_factor, keys, devices, family, registry, services)
    for module in (*modules, registry_space, supervisors, vpn, deltas, assets, odata):
        app.include_router(module.router)
    app.include_router(registry_space.services)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    tasks = [
        asyncio.create_task(context.hub.run()),
        asyncio.create_task(streams.keep_leases(context.database, context.hub, context.instance)),
        asyncio.create_task(streams.keep_sweeping(context.database)),
        asyncio.create_task(_worker(context).run()),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        context.database.close()


def _worker(context: Context) -> Worker:
    return Worker(
        context.database, context.hub, context.supervisor_secrets, context.gate, context.instance
    )


def _add_handlers(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def known(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse({"error": error.sentence}, error.status, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse(
            {"error": str(error.detail)}, error.status_code, headers=dict(error.headers or {})
        )

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": _sentence(error)}, 400)

    @app.exception_handler(UnicodeEncodeError)
    async def surrogate(_: Request, __: UnicodeEncodeError) -> JSONResponse:
        # JSON can spell half a surrogate pair (RFC 8259, 8.2), and no database can store it.
        return JSONResponse({"error": "a text holds half of a surrogate pair: no character"}, 400)

    @app.exception_handler(DBAPIError)
    async def database(request: Request, error: DBAPIError) -> JSONResponse:
        return _database_answer(request, error)

    @app.exception_handler(PoolTimeoutError)
    async def busy(_: Request, __: PoolTimeoutError) -> JSONResponse:
        return JSONResponse({"error": "the api is busy: try again"}, 503, headers=RETRY_AFTER)

    @app.exception_handler(Exception)
    async def unknown(request: Request, error: Exception) -> JSONResponse:
        return _internal(request, error)


def _database_answer(request: Request, error: DBAPIError) -> JSONResponse:
    if isinstance(error, OperationalError) or error.connection_invalidated:
        log.warning("%s %s: no database: %s", request.method, request.url.path, reason(error))
        return JSONResponse(
            {"error": "the database does not answer: try again"}, 503, headers=RETRY_AFTER
        )
    rule = broken(error.orig)
    if rule is not None:
        context: Context = request.app.state.context
        context.metrics.rules.labels(rule.rule.name).inc()
        told = {"error": rule.sentence, "rule": rule.rule.name, "resource": rule.resource}
        return JSONResponse({**told, "ids": rule.ids, "count": rule.count}, rule.status)
    if isinstance(error, IntegrityError):
        return JSONResponse({"error": f"this is at odds with what is there: {reason(error)}"}, 409)
    if isinstance(error, DataError):
        return JSONResponse({"error": f"a value does not fit: {reason(error)}"}, 400)
    return _internal(request, error)


def _internal(request: Request, error: Exception) -> JSONResponse:
    incident = secrets.token_hex(4)
    log.error(
        "internal error %s at %s %s", incident, request.method, request.url.path, exc_info=error
    )
    return JSONResponse(
        {"error": f"an internal error happened; the api's log has it under {incident}"},
        500,
        # The server ends this connection after it. Unsaid, the proxy would send the next request,
        # of whomever, into its end, and answer it with 502.
        headers={"Connection": "close"},
    )


def _sentence(error: RequestValidationError) -> str:
    faults = []
    for fault in error.errors()[:5]:
        place = ".".join(str(part) for part in fault["loc"])
        faults.append(f"{place}: {fault['msg']}")
    return "the request is not valid: " + "; ".join(faults)

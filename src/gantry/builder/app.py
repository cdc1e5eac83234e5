"""The builder's HTTP interface. Routes are thin: the pipeline decides."""

import asyncio
import hmac
import logging
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import SecretStr
from starlette.requests import ClientDisconnect

from gantry.builder import archive, buildlog
from gantry.builder.buildx import BuildFailedError
from gantry.builder.catalogue import CatalogueError
from gantry.builder.config import BuilderConfig
from gantry.builder.engine import EngineError
from gantry.builder.pipeline import Pipeline, Push
from gantry.builder.plan import RejectedError
from gantry.builder.releases import ReleaseApi, ReleaseApiError
from gantry.builder.stream import BuildStream, Emit
from gantry.builder.supervisor_image import SupervisorImages
from gantry.contracts.build import BuildMessage, BuildResult, Phase, ReleaseStatus
from gantry.contracts.device_types import Architecture, UnknownDeviceTypeError, device_type

log = logging.getLogger(__name__)


class Doorkeeper:
    """Knows the service keys that may ask for builds."""

    def __init__(self, keys: Iterable[SecretStr]) -> None:
        self._keys = [each.get_secret_value().encode() for each in keys]

    def knows(self, authorization: str) -> bool:
        """Whether the header holds one of the keys; takes the same time for a wrong one."""
        scheme, _, key = authorization.partition(" ")
        matches = [hmac.compare_digest(key.encode(), each) for each in self._keys]
        return scheme.lower() == "bearer" and any(matches)


def create_app(
    config: BuilderConfig, pipeline: Pipeline, supervisors: SupervisorImages, api: ReleaseApi
) -> FastAPI:
    """The application; what it works with is passed in."""
    app = FastAPI(title="Gantry builder", docs_url=None, redoc_url=None, openapi_url=None)
    doorkeeper = Doorkeeper([config.service_key, *config.accepted_keys])
    uploads = config.data_directory / "work"
    logs = config.data_directory / "logs"

    def service(authorization: Annotated[str, Header()] = "") -> None:
        if not doorkeeper.knows(authorization):
            raise HTTPException(401, "this needs the key of one of the fleet's services")

    @app.exception_handler(HTTPException)
    async def problem(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": error.detail}, error.status_code)

    @app.get("/ping")
    async def ping() -> Response:
        return PlainTextResponse("OK")

    @app.post("/v3/build", dependencies=[Depends(service)])
    async def build(request: Request, push: Annotated[Push, Depends(_push)]) -> Response:
        work = Path(tempfile.mkdtemp(prefix="build-", dir=uploads))
        started = time.monotonic()
        try:
            limits = archive.TreeLimits(config.limits.context_bytes, config.limits.context_entries)
            await archive.receive(request.stream(), work / "tree.tar", limits)
        except BaseException as error:
            shutil.rmtree(work, ignore_errors=True)
            if isinstance(error, RejectedError):
                raise HTTPException(413, str(error)) from error
            if isinstance(error, ClientDisconnect):
                return Response(status_code=400)
            raise
        received = time.monotonic() - started

        async def run(emit: Emit) -> BuildResult:
            try:
                return await pipeline.run(push, work / "tree.tar", work, received, emit)
            finally:
                await asyncio.to_thread(shutil.rmtree, work, ignore_errors=True)

        return BuildStream(run)

    @app.get("/v3/builds/{release_id}/log")
    async def read_log(
        release_id: int, authorization: Annotated[str, Header()] = ""
    ) -> PlainTextResponse:
        if not doorkeeper.knows(authorization):
            try:
                allowed = bool(authorization) and await api.may_read(release_id, authorization)
            except ReleaseApiError as error:
                raise HTTPException(503, str(error)) from error
            if not allowed:
                raise HTTPException(401, f"the api shows you no release {release_id}: log in")
        text = await asyncio.to_thread(buildlog.read, logs, release_id)
        if text is None:
            raise HTTPException(404, f"there is no log of release {release_id}")
        return PlainTextResponse(text)

    @app.post("/v3/supervisor/{arch}", dependencies=[Depends(service)])
    async def supervisor(arch: str) -> Response:
        if arch not in set(Architecture):
            raise HTTPException(404, f"unknown architecture {arch!r}: {', '.join(Architecture)}")

        async def run(emit: Emit) -> BuildResult:
            return await _supervisor(supervisors, Architecture(arch), emit)

        return BuildStream(run)

    return app


async def _supervisor(supervisors: SupervisorImages, arch: Architecture, emit: Emit) -> BuildResult:
    def say(line: str) -> None:
        emit(BuildMessage(line, Phase.BUILD, "supervisor"))

    try:
        say(f"pushed {await supervisors.ensure(arch, say)}")
    except (BuildFailedError, CatalogueError, EngineError, ReleaseApiError) as error:
        return BuildResult(ReleaseStatus.FAILED, commit="", error=str(error))
    return BuildResult(ReleaseStatus.SUCCESS, commit="", services=["supervisor"])


def _push(
    application_id: Annotated[int, Query()],
    slug: Annotated[str, Query(max_length=200)],
    type_slug: Annotated[str, Query(alias="device_type")],
    user_id: Annotated[int, Query()],
    commit: Annotated[str, Query(pattern=r"^[0-9a-f]{7,64}$")],
    username: Annotated[str, Query(max_length=200)] = "",
    nocache: Annotated[bool, Query()] = False,
) -> Push:
    try:
        device_type(type_slug)
    except UnknownDeviceTypeError as error:
        raise HTTPException(400, str(error)) from error
    return Push(application_id, slug, type_slug, user_id, username, commit, nocache)

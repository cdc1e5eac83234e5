"""`python -m gantry.builder`: the engine, the HTTP interface, and what is done at their start."""

import asyncio
import logging
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import uvicorn

from gantry.builder import buildlog, container
from gantry.builder.app import create_app
from gantry.builder.buildx import BuildFailedError, Buildx
from gantry.builder.catalogue import Catalogue, CatalogueError
from gantry.builder.cgroups import BuildCgroups, CgroupError
from gantry.builder.config import BuilderConfig, load
from gantry.builder.container import ContainerError
from gantry.builder.daemons import DaemonError, engine_daemon, name_server, wait_ready
from gantry.builder.engine import Engine, EngineError
from gantry.builder.executor import Executor
from gantry.builder.pipeline import Pipeline, Workshop
from gantry.builder.pushing import Leases
from gantry.builder.queue import BuildQueue
from gantry.builder.registry import Registry
from gantry.builder.releases import ReleaseApi, ReleaseApiError
from gantry.builder.supervisor_image import SupervisorImages
from gantry.configuration import ConfigError
from gantry.contracts.device_types import Architecture

PORT = 8080
RUN = Path("/run/gantry")
SOCKET = RUN / "docker.sock"
USERNAME = "builder"
# Builds that run are broken off after it: they cannot be ended in the time that Docker gives.
SHUTDOWN_SECONDS = 1

log = logging.getLogger("gantry.builder")


class Server(uvicorn.Server):
    """A server that leaves signals to the builder, which has more to end than connections."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve(config: BuilderConfig) -> str:
    """Run until a signal or until a daemon ends; the returned line says why."""
    native = container.native_architecture()
    _make_folders(config)
    container.prepare_mounts()
    _say_emulation(native)
    bundle = container.write_trust(config.registry, config.ca_certificate_pem, RUN)
    cgroups = BuildCgroups(f"gantry-{config.fleet}-builder")
    cgroups.prepare()
    key = config.service_key.get_secret_value()
    async with AsyncExitStack() as stack:
        leases = Leases(config.api_url, key, config.builder_name)
        stack.push_async_callback(leases.close)
        engine = Engine(SOCKET, config.registry, USERNAME, key, leases.pushing)
        stack.push_async_callback(engine.close)
        stack.callback(cgroups.remove)
        dockerd = engine_daemon(SOCKET, cgroups.parent, bundle)
        stack.push_async_callback(dockerd.stop)
        await dockerd.start()
        await wait_ready(engine, dockerd)
        names = name_server()
        stack.push_async_callback(names.stop)
        await names.start()
        container.raise_fence(config.https_port)
        registry = Registry(config.registry, config.ca_certificate_pem, USERNAME, key)
        stack.push_async_callback(registry.close)
        api = ReleaseApi(config.api_url, key, config.builder_name)
        stack.push_async_callback(api.close)
        buildx = Buildx(SOCKET)
        catalogue = Catalogue(
            engine, buildx, config.registry, config.resources, config.data_directory
        )
        supervisors = SupervisorImages(
            engine, buildx, catalogue, api, config.registry, config.resources
        )
        workshop = Workshop(
            engine=engine,
            executor=Executor(
                engine,
                buildx,
                registry,
                cgroups,
                config.limits,
                native,
                config.data_directory,
                cache_secret=key,
            ),
            catalogue=catalogue,
            supervisors=supervisors,
            api=api,
            queue=BuildQueue(config.limits.concurrent_builds),
            limits=config.limits,
            registry=config.registry,
            logs=config.data_directory / "logs",
        )
        pipeline = Pipeline(workshop)
        stack.push_async_callback(pipeline.end)
        app = create_app(config, pipeline, supervisors, api)
        server = Server(
            uvicorn.Config(
                app, host="0.0.0.0", port=PORT, log_level="warning", access_log=False,  # noqa: S104
                timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            )
        )  # fmt: skip
        chores = asyncio.create_task(
            _chores((native, config.own_type.architecture), api, catalogue, supervisors)
        )
        stack.callback(chores.cancel)
        log.info("ready: engine answers, listening on port %d", PORT)
        return await _until_end(server, [dockerd.ended(), names.ended()])


async def _until_end(server: uvicorn.Server, ends: list[Awaitable[str]]) -> str:
    """Until SIGTERM or SIGINT ends the server, or a daemon ends by itself."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    serving = asyncio.create_task(server.serve())
    watched = [asyncio.ensure_future(each) for each in ends]
    done, _ = await asyncio.wait({serving, *watched}, return_when=asyncio.FIRST_COMPLETED)
    ended = [each.result() for each in watched if each in done]
    server.should_exit = True
    await asyncio.wait({serving})
    for each in watched:
        each.cancel()
    return ended[0] if ended else ""


async def _chores(
    architectures: Iterable[Architecture],
    api: ReleaseApi,
    catalogue: Catalogue,
    supervisors: SupervisorImages,
) -> None:
    """What must be done at a start, but need not be waited for: each is tried until it works."""

    async def recover() -> None:
        await api.recover()
        log.info("recovered: builds that were running before this start are failed")

    def say(line: str) -> None:
        log.info("%s", line)

    async def bases() -> None:
        for base in catalogue.shipped():
            await catalogue.ensure(base, say)

    async def supervisor() -> None:
        for arch in dict.fromkeys(architectures):
            log.info("supervisor image: pushed %s", await supervisors.ensure(arch, _silent))

    await asyncio.gather(
        _persist("recover", recover), _persist("bases", bases), _persist("supervisor", supervisor)
    )


def _silent(_: str) -> None:
    return


async def _persist(name: str, chore: Callable[[], Awaitable[None]]) -> None:
    pause = 1.0
    while True:
        try:
            await chore()
            return
        except (BuildFailedError, CatalogueError, EngineError, ReleaseApiError) as error:
            log.warning("%s: %s (next try in %.0f s)", name, error, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, 60.0)


def _make_folders(config: BuilderConfig) -> None:
    """What a killed builder left of its work goes."""
    shutil.rmtree(config.data_directory / "work", ignore_errors=True)
    for each in (config.data_directory / "work", config.data_directory / "logs"):
        each.mkdir(parents=True, exist_ok=True)
    buildlog.prune(config.data_directory / "logs")
    RUN.mkdir(mode=0o700, exist_ok=True)


def _say_emulation(native: Architecture) -> None:
    for arch in Architecture:
        found = container.emulation(arch, native)
        if found.problem:
            log.warning("cannot build for %s: %s", arch, found.problem)
        else:
            log.info("builds for %s: %s", arch, "native" if arch is native else "emulated")


def main() -> int:
    """Exit code 0 after a signal, 1 when a daemon ended, 2 for a wrong configuration."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s"
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    try:
        reason = asyncio.run(serve(load()))
    except ConfigError as error:
        log.error("%s", error)
        return 2
    except (CgroupError, ContainerError, DaemonError) as error:
        log.error("%s", error)
        return 1
    if reason:
        log.error("%s: the builder ends and is started anew", reason)
    return 1 if reason else 0


if __name__ == "__main__":
    sys.exit(main())

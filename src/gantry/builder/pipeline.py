"""One push, from the received tree to the release that devices are told of."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gantry.builder import archive, disk
from gantry.builder.buildlog import BuildLog
from gantry.builder.buildx import BuildFailedError
from gantry.builder.catalogue import Catalogue, CatalogueError
from gantry.builder.cgroups import CgroupError
from gantry.builder.config import Limits
from gantry.builder.container import emulation
from gantry.builder.disk import DiskError
from gantry.builder.engine import Engine, EngineError
from gantry.builder.executor import BuildError, Executor, Order
from gantry.builder.plan import BuildPlan, RejectedError, Target
from gantry.builder.queue import BuildQueue
from gantry.builder.registry import RegistryError
from gantry.builder.releases import Release, ReleaseApi, ReleaseApiError
from gantry.builder.report import Report
from gantry.builder.resolve import resolve
from gantry.builder.supervisor_image import SupervisorImages
from gantry.builder.tree import Tree
from gantry.contracts.build import BuildMessage, BuildResult, Phase, ReleaseStatus
from gantry.contracts.device_types import device_type

FINISH_SECONDS = 20.0
EXPECTED = (
    BuildError,
    BuildFailedError,
    CatalogueError,
    CgroupError,
    DiskError,
    EngineError,
    RegistryError,
    RejectedError,
    ReleaseApiError,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Push:
    """What is pushed, by whom, and to which application."""

    application_id: int
    slug: str
    device_type: str
    user_id: int
    username: str
    commit: str
    no_cache: bool = False

    @property
    def title(self) -> str:
        return f"{self.commit[:12]} of {self.username}"


@dataclass
class Attempt:
    """The state of one run: what is known so far."""

    push: Push
    report: Report
    log: BuildLog
    release: Release | None = None
    services: list[str] = field(default_factory=list)

    def result(self, status: ReleaseStatus, error: str | None = None, size: int = 0) -> BuildResult:
        return BuildResult(
            status=status,
            commit=self.push.commit,
            release_id=self.release.release_id if self.release else None,
            error=error,
            size=size,
            seconds=dict(self.report.seconds),
            services=self.services,
        )


@dataclass(frozen=True, slots=True)
class Workshop:
    """What all builds share."""

    engine: Engine
    executor: Executor
    catalogue: Catalogue
    supervisors: SupervisorImages
    api: ReleaseApi
    queue: BuildQueue
    limits: Limits
    registry: str
    logs: Path


class Pipeline:
    """Runs builds. Every end is told to the api: success, failure, and being broken off."""

    def __init__(self, workshop: Workshop) -> None:
        self._shop = workshop
        self._background: set[asyncio.Task[None]] = set()
        self._running: set[asyncio.Task[Any]] = set()

    async def end(self) -> None:
        """Break off what runs, and wait until the api was told."""
        running = [*self._running, *self._background]
        for each in running:
            # A second cancel would break off the call that tells the api.
            if not each.cancelling():
                each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def run(
        self,
        push: Push,
        source: Path,
        work: Path,
        receive_seconds: float,
        emit: Callable[[BuildMessage], None],
    ) -> BuildResult:
        """Build the tar file `source` in the folder `work`; cancelling ends the build.

        Never raises for what can go wrong with a push or with the fleet: the result says it.
        """
        build_log = BuildLog(self._shop.logs, work.name, self._shop.limits.log_bytes)
        attempt = Attempt(push, Report(emit, build_log), build_log)
        attempt.report.spent(Phase.RECEIVE, receive_seconds)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._running.add(task)
        heartbeat = asyncio.create_task(attempt.report.heartbeat())
        try:
            return await self._attempt(attempt, source, work)
        except EXPECTED as error:
            return await self._failed(attempt, str(error))
        except asyncio.CancelledError:
            await self._finish(attempt, ReleaseStatus.CANCELLED, "the push was broken off")
            raise
        except Exception:
            log.exception("build of %s for %s failed", push.commit, push.slug)
            return await self._failed(
                attempt, "the builder failed; its own log has the reason: tell the fleet's operator"
            )
        finally:
            self._running.discard(task)
            heartbeat.cancel()
            build_log.close()

    async def _attempt(self, attempt: Attempt, source: Path, work: Path) -> BuildResult:
        push, report, shop = attempt.push, attempt.report, self._shop
        with report.phase(Phase.RECEIVE):
            limits = archive.TreeLimits(shop.limits.context_bytes, shop.limits.context_entries)
            await asyncio.to_thread(archive.unpack, source, work / "tree", limits)
            await asyncio.to_thread(source.unlink)
        with report.phase(Phase.RESOLVE):
            plan = await asyncio.to_thread(self._resolve, push, work / "tree")
            attempt.services = plan.services
            self._announce(report, plan)
        async with AsyncExitStack() as place:
            with report.phase(Phase.QUEUE):
                await place.enter_async_context(
                    shop.queue.turn(push.application_id, push.title, report.say)
                )
            return await self._build(attempt, plan, work)

    def _resolve(self, push: Push, tree: Path) -> BuildPlan:
        device = device_type(push.device_type)
        native = self._shop.executor.native
        found = emulation(device.architecture, native)
        if found.problem:
            raise RejectedError(
                f"this builder cannot build for {device.slug} ({device.architecture}): "
                f"{found.problem}"
            )
        target = Target(device, push.application_id, push.slug, push.commit, native)
        return resolve(Tree(tree), target, self._shop.registry)

    @staticmethod
    def _announce(report: Report, plan: BuildPlan) -> None:
        for warning in plan.warnings:
            report.say(f"warning: {warning}")
        for build in plan.builds:
            report.say(f"building from {build.origin}", build.service)
        for image in plan.images:
            report.say(f"using {image.base.reference}", image.service)

    async def _build(self, attempt: Attempt, plan: BuildPlan, work: Path) -> BuildResult:
        push, report, shop = attempt.push, attempt.report, self._shop
        device = device_type(push.device_type)
        with report.phase(Phase.BUILD):
            await disk.make_room(shop.engine, shop.logs, 2 * disk.RESERVE_BYTES)
        with report.phase(Phase.NOTIFY):
            attempt.release = await shop.api.create_release(
                application_id=push.application_id,
                user_id=push.user_id,
                commit=push.commit,
                composition=plan.composition,
                services=plan.services,
            )
        if attempt.release.already:
            report.say(
                f"this commit was built before: release {attempt.release.release_id} is what the "
                "fleet's devices are to run again"
            )
            return attempt.result(ReleaseStatus.SUCCESS)
        attempt.log.keep(attempt.release.release_id)
        with report.phase(Phase.BUILD):
            for base in plan.bases:
                await shop.catalogue.ensure(base, report.say)
        images = await shop.executor.run(
            Order(push.application_id, device, push.commit, push.no_cache),
            plan,
            attempt.release,
            report,
            work,
        )
        with report.phase(Phase.NOTIFY):
            await shop.api.finish_release(
                attempt.release.release_id,
                ReleaseStatus.SUCCESS,
                log=attempt.log.tail(),
                images=images,
            )
        self._tidy_later([each.repository for each in attempt.release.images.values()])
        # Devices of this kind are to come, and of another kind than the stack's own this may be
        # the first: they need a supervisor.
        self._later(shop.supervisors.ensure_once(device.architecture))
        return attempt.result(ReleaseStatus.SUCCESS, size=sum(each.size for each in images))

    async def _failed(self, attempt: Attempt, error: str) -> BuildResult:
        # Who pushed reads it in the result: said as well, it would be there twice.
        attempt.log.write(error)
        await self._finish(attempt, ReleaseStatus.FAILED, error)
        return attempt.result(ReleaseStatus.FAILED, error)

    async def _finish(self, attempt: Attempt, status: ReleaseStatus, error: str) -> None:
        """Tell the api of an end without success, also when this task is being cancelled."""
        if attempt.release is None:
            return
        call = asyncio.create_task(
            self._shop.api.finish_release(
                attempt.release.release_id, status, log=attempt.log.tail(), error=error
            )
        )
        try:
            async with asyncio.timeout(FINISH_SECONDS):
                await asyncio.shield(call)
        except (ReleaseApiError, TimeoutError) as problem:
            # The api sets it failed at this builder's next start: `recover`.
            log.warning("release %d stays running: %s", attempt.release.release_id, problem)

    def _tidy_later(self, repositories: list[str]) -> None:
        names = [f"{self._shop.registry}/{each}" for each in repositories]
        self._later(disk.tidy(self._shop.engine, names, self._shop.limits.disk_bytes))

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

"""Carries out a plan: builds and pushes its images within the limits of a build."""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gantry.builder import disk
from gantry.builder.buildx import BuildFailedError, BuildJob, Buildx
from gantry.builder.cgroups import BuildCgroups
from gantry.builder.config import Limits
from gantry.builder.engine import Engine
from gantry.builder.plan import BASE_TAGS, BuildPlan, ServiceBuild
from gantry.builder.progress import Line
from gantry.builder.registry import Registry
from gantry.builder.releases import BuiltImage, Release, ReleaseImage
from gantry.builder.report import Report
from gantry.contracts.build import Phase
from gantry.contracts.device_types import Architecture, DeviceType

PARALLEL_SERVICES = 2
_NO_IMAGE = ("failed to resolve source metadata", "pull access denied", "failed to do request")
_KILLED = ("exit code: 137", "signal: killed", "cannot allocate memory")

T = TypeVar("T")

log = logging.getLogger(__name__)


class BuildError(Exception):
    """A build ended without an image; the message is for the person who pushed."""


@dataclass(frozen=True, slots=True)
class Order:
    """For whom a plan is carried out."""

    application_id: int
    device: DeviceType
    commit: str
    no_cache: bool = False


@dataclass(frozen=True, slots=True)
class Made:
    """An image in the engine, with the name that it is pushed under."""

    image: ReleaseImage
    reference: str
    seconds: float
    dockerfile: str | None
    contract: Mapping[str, Any] | None = None


class Executor:
    """Builds on `engine` with `buildx`, pushes to `registry`, and reads back what was pushed.

    From `cache_secret` come the names that keep the applications' caches apart.
    """

    def __init__(
        self,
        engine: Engine,
        buildx: Buildx,
        registry: Registry,
        cgroups: BuildCgroups,
        limits: Limits,
        native: Architecture,
        disk_folder: Path,
        cache_secret: str,
    ) -> None:
        self._engine = engine
        self._buildx = buildx
        self._registry = registry
        self._cgroups = cgroups
        self._limits = limits
        self.native = native
        self._disk_folder = disk_folder
        self._cache_secret = cache_secret.encode()

    async def run(
        self, order: Order, plan: BuildPlan, release: Release, report: Report, work: Path
    ) -> list[BuiltImage]:
        """Build all services, then push them.

        Raises:
            BuildError: over a limit, or a service failed.
            EngineError, RegistryError: the push failed.
        """
        group = self._cgroups.limited(order.application_id, self._limits.memory_bytes)
        try:
            return await self._within_limits(self._all(order, plan, release, report, work, group))
        finally:
            self._cgroups.kill(group)

    async def _within_limits(self, steps: Coroutine[Any, Any, T]) -> T:
        building = asyncio.create_task(steps)
        watching = asyncio.create_task(disk.watch(self._disk_folder, self._limits.disk_bytes))
        try:
            done, _ = await asyncio.wait(
                {building, watching},
                timeout=self._limits.build_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if building in done:
                return building.result()
            if watching in done:
                raise BuildError(watching.result())
            raise BuildError(
                f"the build took longer than {self._limits.build_seconds} s, its limit"
            )
        finally:
            watching.cancel()
            building.cancel()
            await asyncio.wait({building, watching})

    async def _all(
        self,
        order: Order,
        plan: BuildPlan,
        release: Release,
        report: Report,
        work: Path,
        group: str,
    ) -> list[BuiltImage]:
        with report.phase(Phase.BUILD):
            made = await _together(
                [
                    self._build(order, each, release.images[each.service], report, work, group)
                    for each in plan.builds
                ]
            )
        with report.phase(Phase.PUSH):
            for each in plan.images:
                image = release.images[each.service]
                reference = self._name(image, order.commit)
                await self._engine.tag(each.base.reference, reference)
                made.append(Made(image, reference, 0.0, None))
            return await _together([self._push(each, report) for each in made])

    async def _build(
        self,
        order: Order,
        build: ServiceBuild,
        image: ReleaseImage,
        report: Report,
        work: Path,
        group: str,
    ) -> Made:
        folder = work / f"service-{image.image_id}"
        folder.mkdir()
        if build.dockerfile is None:
            dockerfile = folder / "Dockerfile"
            dockerfile.write_text(build.content)
        else:
            dockerfile = work / "tree" / build.dockerfile
        reference = self._name(image, order.commit)
        job = BuildJob(
            context=work / "tree" / build.context,
            dockerfile=dockerfile,
            platform=order.device.architecture.platform,
            tags=[reference],
            args=build.args,
            labels=build.labels,
            target=build.target,
            no_cache=order.no_cache,
            cgroup_parent=group,
            cache_namespace=self._cache_namespace(order.application_id),
        )
        started = time.monotonic()
        try:
            await self._buildx.build(job, _speaker(report, build.service), folder)
        except BuildFailedError as error:
            reason = self._explain(str(error), short_of_memory=self._cgroups.ran_out(group))
            raise BuildError(f"service {build.service}: {reason}") from error
        seconds = round(time.monotonic() - started, 3)
        return Made(image, reference, seconds, build.content, build.contract)

    async def _push(self, made: Made, report: Report) -> BuiltImage:
        image = made.image
        digest = await self._engine.push(
            made.reference, lambda line: report.say(line, image.service)
        )
        size = await self._registry.size(image.repository, digest)
        local = await self._engine.image(made.reference)
        report.say(f"pushed {digest[:19]}, {size / 1e6:.1f} MB", image.service)
        return BuiltImage(
            image_id=image.image_id,
            digest=digest,
            size=size,
            build_seconds=made.seconds,
            dockerfile=made.dockerfile,
            labels=_labels(local.labels if local else {}),
            contract=made.contract,
        )

    def _cache_namespace(self, application_id: int) -> str:
        """The same from push to push, and not to be guessed: a frontend of a user's own, which
        `# syntax=` may name, could ask for any."""
        text = f"cache of application {application_id}".encode()
        return hmac.new(self._cache_secret, text, hashlib.sha256).hexdigest()[:32]

    def _name(self, image: ReleaseImage, commit: str) -> str:
        return f"{self._registry.name}/{image.repository}:{commit}"

    def _explain(self, reason: str, *, short_of_memory: bool) -> str:
        if short_of_memory and any(each in reason for each in _KILLED):
            limit = self._limits.memory_bytes // 1024**2
            return f"{reason}: it needed more than {limit} MiB of memory, the limit of a build"
        if any(each in reason for each in _NO_IMAGE):
            bases = ", ".join(f"gantry/<arch>-{name}:{tag}" for name, tag in BASE_TAGS.items())
            return f"{reason}. Base images of this fleet are {bases}"
        return reason


def _speaker(report: Report, service: str) -> Callable[[Line], None]:
    def speak(line: Line) -> None:
        report.say(line.text, service, is_error=line.is_error)

    return speak


def _labels(labels: Mapping[str, str]) -> dict[str, str]:
    """An image's own labels, without those of our bases."""
    return {name: value for name, value in labels.items() if not name.startswith("gantry.")}


async def _together(steps: list[Coroutine[Any, Any, T]]) -> list[T]:
    """All steps, a few at a time; the first failure ends the others and is raised as it is."""
    gate = asyncio.Semaphore(PARALLEL_SERVICES)

    async def one(step: Coroutine[Any, Any, T]) -> T:
        async with gate:
            return await step

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(each)) for each in steps]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    finally:
        for each in steps:
            each.close()
    return [each.result() for each in tasks]

"""The doorway to BuildKit: `docker buildx build` on the builder's own engine."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gantry.builder.progress import Line, Transcript

STOP_SECONDS = 5.0
LINE_LIMIT_BYTES = 4 * 1024**2
# https://docs.docker.com/reference/dockerfile/#buildkit-built-in-build-args
CACHE_NAMESPACE = "BUILDKIT_CACHE_MOUNT_NS"


class BuildFailedError(Exception):
    """A build ended with an error; the message is its reason in one line."""


@dataclass(frozen=True, slots=True)
class BuildJob:
    """One image to build. `dockerfile` may lie outside `context`.

    `cache_namespace` keeps apart what `RUN --mount=type=cache` keeps: BuildKit knows those folders
    by a name alone, so without it one application's packages would be taken by another's build.
    """

    context: Path
    dockerfile: Path
    platform: str
    tags: Sequence[str]
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    no_cache: bool = False
    cgroup_parent: str | None = None
    cache_namespace: str | None = None


def command(job: BuildJob, metadata: Path) -> list[str]:
    """The command line of a build. Build arguments are no secrets: layers hold them."""
    words = [
        "docker",
        "buildx",
        "build",
        "--progress=rawjson",
        "--provenance=false",
        f"--platform={job.platform}",
        f"--file={job.dockerfile}",
        f"--metadata-file={metadata}",
    ]
    words += [f"--tag={each}" for each in job.tags]
    args = dict(job.args)
    # Not the tree's to choose, whatever its docker-compose.yml says.
    args.pop(CACHE_NAMESPACE, None)
    if job.cache_namespace:
        args[CACHE_NAMESPACE] = job.cache_namespace
    words += [f"--build-arg={name}={value}" for name, value in args.items()]
    words += [f"--label={name}={value}" for name, value in job.labels.items()]
    if job.target:
        words.append(f"--target={job.target}")
    if job.no_cache:
        words.append("--no-cache")
    if job.cgroup_parent:
        words.append(f"--cgroup-parent={job.cgroup_parent}")
    return [*words, str(job.context)]


class Buildx:
    """Runs builds on the engine at `socket`.

    Each build has a client folder of its own, in its work folder. BuildKit takes a context's files
    for unchanged when the same client sent files of the same size and time before; two commits of
    one second, and all of a tree that was archived with a fixed date, are just that.

    The client has no registry credentials, so that a Dockerfile cannot name another application's
    images: what it may use is in the engine already, or public.
    """

    def __init__(self, socket: Path) -> None:
        self._environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "DOCKER_HOST": f"unix://{socket}",
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        }

    async def build(self, job: BuildJob, emit: Callable[[Line], None], work: Path) -> str:
        """Build, and return the image's id. Cancelling ends the build and waits for its end.

        Raises:
            BuildFailedError: the build failed.
        """
        metadata, home = work / "metadata.json", work / "client"
        home.mkdir()
        process = await asyncio.create_subprocess_exec(
            *command(job, metadata),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**self._environment, "HOME": str(home), "DOCKER_CONFIG": str(home)},
            start_new_session=True,
            limit=LINE_LIMIT_BYTES,
        )
        transcript = Transcript()
        try:
            assert process.stderr is not None  # noqa: S101 - asked for above
            async for raw in process.stderr:
                for line in transcript.feed(raw.decode("utf-8", "replace").rstrip("\n")):
                    emit(line)
            code = await process.wait()
        finally:
            await _end(process)
        for line in transcript.finish():
            emit(line)
        if code != 0:
            raise BuildFailedError(transcript.failure())
        return str(json.loads(metadata.read_text())["containerimage.config.digest"])


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a build that was broken off: BuildKit ends its containers with the client's session."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(asyncio.shield(process.wait()), STOP_SECONDS)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
    await process.wait()

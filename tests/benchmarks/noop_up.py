"""`gantry up` when nothing is to be done, with each engine that this machine has.

A fleet of its own, `benchbots`: a stack belongs to the engine that deployed it, so one fleet cannot
be measured with both. Its project folder holds the real program and a stack file.
"""

import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gantry.deployment.paths import cache_home, repository_root
from tests.benchmarks import machine
from tests.benchmarks.fleet import GANTRY, BenchmarkError, run
from tests.ports import free_port

STACK = "benchbots"
ENGINES = ("builtin", "pulumi")
# How both engines count what they did, or would do.
CHANGES = re.compile(r"\d+ (to )?(create|update|replace|delete)d?\b")
Gantry = Callable[..., tuple[float, str]]


@dataclass(frozen=True, slots=True)
class Ups:
    """Seconds of one `up` from nothing, with images that were there, and of those after it."""

    first: float
    noop: list[float]
    preview: list[float]


def engines() -> list[str]:
    """Those that can run here."""
    return [each for each in ENGINES if each != "pulumi" or shutil.which("pulumi")]


def measure(folder: Path, times: int, say: Callable[[str], None]) -> dict[str, Ups]:
    """Deploy, look `times` times, take down; with each engine."""
    found = {}
    for engine in engines():
        with _project(folder / engine) as gantry:
            say(f"{engine}: {STACK} from nothing")
            first, _ = gantry("up", STACK, "--engine", engine)
            noop = [_unchanged(gantry, "up", engine) for _ in range(times)]
            preview = [_unchanged(gantry, "preview", engine) for _ in range(times)]
            say(f"{engine}: up from nothing {first:.1f} s, then {machine.spread(noop)}")
            found[engine] = Ups(first, noop, preview)
            gantry("destroy", STACK, "--engine", engine, "--yes")
    return found


def _unchanged(gantry: Gantry, verb: str, engine: str) -> float:
    """
    Raises:
        BenchmarkError: it found something to do, so its time is not what is asked for.
    """
    seconds, output = gantry(verb, STACK, "--engine", engine)
    if CHANGES.search(output):
        raise BenchmarkError(f"a repeated `{verb}` with {engine} was to change:\n{output[-2000:]}")
    return seconds


@contextmanager
def _project(folder: Path) -> Iterator[Gantry]:
    """A command on the fleet; it answers with its seconds and its output."""
    _write_project(folder)
    environment = {
        **os.environ,
        "GANTRY_PROJECT": str(folder),
        "GANTRY_CONFIG_HOME": str(folder / "config"),
        "GANTRY_CACHE_HOME": str(cache_home()),
        "NO_COLOR": "1",
    }

    def gantry(*arguments: str) -> tuple[float, str]:
        started = time.monotonic()
        done = subprocess.run(
            [str(GANTRY), *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            text = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
            raise BenchmarkError(f"`gantry {' '.join(arguments)}` → {done.returncode}:\n{text}")
        return time.monotonic() - started, done.stdout

    try:
        _remove_objects()
        yield gantry
    finally:
        _remove_objects()


def _write_project(folder: Path) -> None:
    root = repository_root()
    (folder / "stacks").mkdir(parents=True)
    (folder / "config" / "state").mkdir(parents=True, mode=0o700)
    project = yaml.safe_load((root / "Pulumi.yaml").read_text())
    project["main"] = str(root / "infra")
    project["runtime"]["options"]["virtualenv"] = str(root / ".venv")
    project["backend"]["url"] = f"file://{folder / 'config' / 'state'}"
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    ports: dict[str, Any] = {
        f"gantry:{name}": str(free_port()) for name in ("httpsPort", "gitPort")
    }
    ports["gantry:vpn"] = {"port": free_port()}
    (folder / "stacks" / f"Pulumi.{STACK}.yaml").write_text(yaml.safe_dump({"config": ports}))
    passphrase = folder / "config" / "pulumi-passphrase"
    passphrase.touch(mode=0o600)
    passphrase.write_text(secrets.token_urlsafe())


def _remove_objects() -> None:
    """All that bears the fleet's label, volumes too."""
    label = ("--filter", f"label=gantry.fleet={STACK}")
    for listing, removal in (
        (("container", "ls", "-aq"), ("container", "rm", "-f", "-v")),
        (("network", "ls", "-q"), ("network", "rm")),
        (("volume", "ls", "-q"), ("volume", "rm", "-f")),
    ):
        if found := run("docker", *listing, *label).split():
            run("docker", *removal, *found)


def report(found: dict[str, Ups]) -> str:
    """Figures and ratios, as a table in Markdown."""
    rows = [
        [
            engine,
            f"{ups.first:.1f} s",
            machine.spread(ups.noop),
            machine.spread(ups.preview),
            f"{ups.first / sorted(ups.noop)[len(ups.noop) // 2]:.1f}",
        ]
        for engine, ups in found.items()
    ]
    head = ["engine", "up from nothing, images there", "up, no change", "preview, no change"]
    text = machine.table([*head, "first up to no change"], rows)
    if "pulumi" not in found:
        text += "\n\nThe Pulumi CLI is not on PATH: not measured."
    return text

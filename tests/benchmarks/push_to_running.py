"""From `git push` to the application's first line, after a change of one line, caches warm.

The way is cut where one part hands over to the next; all clocks are those of this machine.

| part | from | to |
|---|---|---|
| receive | `git push` is typed | the build begins: login, pack, tree, resolving, a release's row |
| build | the builder's own figure | |
| push | the builder's own figure: image to registry | |
| notify | the release is a success | the device begins to download |
| pull | | the device has the image |
| start | | the new container's first line; the old container's end is in it |
"""

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from statistics import median

from tests.benchmarks import machine
from tests.benchmarks.fleet import BenchmarkError, Device, Fleet, git_environment, run, wait_for

AIM_SECONDS = 5.0
RUNNING_SECONDS = 300.0
DOCKERFILE = """\
FROM gantry/%%RESIN_ARCH%%-raspios:bookworm
COPY application.sh /application.sh
CMD ["/bin/sh", "/application.sh"]
"""
# It ends when it is asked to: a program that ignores SIGTERM costs ten seconds more.
PROGRAM = """\
trap 'exit 0' TERM
echo "this is number {number}"
while true; do sleep 1 & wait $!; done
"""
_SECONDS = re.compile(r"  (\w+) +(?:(\d+) min )?([\d.]+) s")


@dataclass(frozen=True, slots=True)
class Parts:
    """One push; seconds each."""

    receive: float
    build: float
    push: float
    notify: float
    pull: float
    start: float

    @property
    def total(self) -> float:
        return self.receive + self.build + self.push + self.notify + self.pull + self.start

    @property
    def beside_build(self) -> float:
        """All but the build itself: what the platform costs."""
        return self.total - self.build


def summary_seconds(output: str) -> dict[str, float]:
    """The seconds of each phase, as the table at the end of a push has them."""
    found = {}
    for line in output.splitlines():
        if match := _SECONDS.match(line.removeprefix("remote:").removeprefix(" ").rstrip()):
            found[match[1]] = 60 * float(match[2] or 0) + float(match[3])
    return found


def measure(
    fleet: Fleet, checkout: Path, device: Device, pushes: int, say: Callable[[str], None]
) -> list[Parts]:
    """The first push fills the caches and is not counted."""
    found = []
    for number in range(pushes + 1):
        parts = _one(fleet, checkout, device, number)
        if number:
            found.append(parts)
        what = f"push {number}" if number else "the first push, not counted"
        say(f"{what}: {parts.total:.1f} s, beside the build {parts.beside_build:.1f} s")
    return found


def _one(fleet: Fleet, checkout: Path, device: Device, number: int) -> Parts:
    commit = _commit(checkout, number)
    typed = time.time()
    phases = summary_seconds(_push(checkout))
    missing = {"build", "push"} - phases.keys()
    if missing:
        raise BenchmarkError(f"the push's summary has no {' and '.join(missing)}: {phases}")
    downloading = _said(device, typed, "Downloading image")
    downloaded = _said(device, typed, "Downloaded image")
    spoke = wait_for(
        f"the first line of application {number}", lambda: _first_line(device, number), 120, 0.2
    )
    ended = _end_of_release(fleet, commit)
    wait_for(f"{device.name} to be reported", lambda: _is_reported(fleet, device, commit), 120)
    return Parts(
        receive=ended - typed - phases["build"] - phases["push"],
        build=phases["build"],
        push=phases["push"],
        notify=downloading - ended,
        pull=downloaded - downloading,
        start=spoke - downloaded,
    )


def _commit(checkout: Path, number: int) -> str:
    (checkout / "Dockerfile.template").write_text(DOCKERFILE)
    (checkout / "application.sh").write_text(PROGRAM.format(number=number))
    for command in (("add", "--all"), ("commit", "-q", "-m", f"number {number}")):
        subprocess.run(["git", *command], cwd=checkout, env=git_environment(), check=True)
    return run("git", "rev-parse", "HEAD", cwd=checkout).strip()


def _push(checkout: Path) -> str:
    command = ["git", "push", "fleet", "HEAD:main"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"the push failed:\n{done.stderr}")
    return done.stderr


def _said(device: Device, since: float, sentence: str) -> float:
    """When the supervisor first said this after `since`."""

    def found() -> float | None:
        return next((when for when, text in device.journal(since) if sentence in text), None)

    return wait_for(f"{device.name} to say {sentence!r}", found, RUNNING_SECONDS)


def _first_line(device: Device, number: int) -> float | None:
    """When the application of this number printed its first line, by the device's engine."""
    ids = device("docker", "ps", "-q", "--filter", "label=io.balena.service-name=main").split()
    for each in ids:
        for line in device("docker", "logs", "--timestamps", each).splitlines():
            when, _, text = line.partition(" ")
            if text.strip() == f"this is number {number}":
                # Nanoseconds: more than Python's clock takes.
                return datetime.fromisoformat(when[:26] + "+00:00").timestamp()
    return None


def _end_of_release(fleet: Fleet, commit: str) -> float:
    rows = fleet.rows("release", filter=f"commit eq '{commit}'", select="end_timestamp")
    return datetime.fromisoformat(str(rows[0]["end_timestamp"])).timestamp()


def _is_reported(fleet: Fleet, device: Device, commit: str) -> bool:
    wanted = f"device_name eq '{device.name}' and is_running__release/commit eq '{commit}'"
    return bool(fleet.rows("device", filter=wanted, select="id"))


def report(found: list[Parts]) -> str:
    """Figures and ratios, as a table in Markdown."""
    names = [each.name for each in fields(Parts)]
    rows = [[name, machine.spread([getattr(each, name) for each in found])] for name in names]
    totals = [each.total for each in found]
    besides = [each.beside_build for each in found]
    rows += [
        ["**in all**", machine.spread(totals)],
        ["**all but the build**", machine.spread(besides)],
        ["aim for all but the build", f"{AIM_SECONDS:.0f} s"],
        ["of the aim", f"{median(besides) / AIM_SECONDS:.2f}"],
    ]
    head = ["part", f"median of {len(found)} (least to greatest)"]
    return machine.table(head, rows)

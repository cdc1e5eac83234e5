"""Deltas beside other tools: `make bench-deltas`. Figures, printed as tables in Markdown.

    .venv/bin/python -m tests.benchmarks.deltas [--pairs wheels,security] [--tools gantry,zstd]

Every output is compared with the layer that was wanted; one that differs ends the run. What is
larger than another tool's, and what takes longer than it may, is said and ends it with 1.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import machine
from tests.benchmarks.deltas import verdict
from tests.benchmarks.deltas.measure import MIB, Cost, ToolError, ToolTimeoutError, run
from tests.benchmarks.deltas.ours import NO_CONFIG
from tests.benchmarks.deltas.pairs import RECIPE_LIST, Pair, digest_of, prepare
from tests.benchmarks.deltas.tools import PACKAGES, TOOLS, Job, Tool
from tests.benchmarks.deltas.verdict import OURS, Result

CACHE = Path(os.environ.get("GANTRY_CACHE_HOME", Path.home() / ".cache" / "gantry"))
PROGRAMS = ("xdelta3", "rdiff", "bsdiff", "casync", "zstd", "time")
QUIET_LOAD = 1.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What all measurements share."""

    folder: Path
    timeout: float


def say(text: str) -> None:
    """What happens now goes to stderr; stdout has the tables alone."""
    print(f"  {text}", file=sys.stderr, flush=True)


def theirs(bench: Bench, pair: Pair, tool: Tool) -> Result:
    """One of the other tools: layer by layer, the old one at the same place as its base."""
    size, generate, apply = 0, Cost(), Cost()
    for old, new in zip(pair.replaced(), pair.changed(), strict=True):
        with tempfile.TemporaryDirectory(dir=bench.folder) as name:
            folder = Path(name)
            job = Job(old, new, folder / "delta", folder / "out", folder)
            generate += run(tool.generate(job), bench.timeout)
            size += tool.size(job)
            apply += run(tool.apply(job), bench.timeout)
            _same(tool.name, job.out, new)
    return Result(tool.name, size, generate, apply)


def ours(bench: Bench, pair: Pair) -> Result:
    """This project's: from the tars to one file, and from the extracted files to the tars."""
    with tempfile.TemporaryDirectory(dir=bench.folder) as name:
        folder = Path(name)
        old = {digest_of(path): path for path in pair.old}
        new = {digest_of(path): path for path in pair.changed()}
        delta = folder / "delta"
        words = [sys.executable, "-m", "tests.benchmarks.deltas.ours", str(delta)]
        for option, layers in (("--source", old), ("--target", new)):
            words += [w for key, path in layers.items() for w in (option, f"{key}={path}")]
        generate = run(words, bench.timeout)
        sources = []
        for number, (key, path) in enumerate(old.items()):
            extracted = folder / str(number)
            extracted.mkdir()
            words = ["tar", "-x", "-p", "--numeric-owner", "--delay-directory-restore"]
            run([*words, "-f", str(path), "-C", str(extracted)], 600)
            sources += ["--source", f"{key}={extracted}"]
        names = ["--config", NO_CONFIG, *(w for key in new for w in ("--layer", key))]
        apply = Cost()
        for key, path in new.items():
            out = folder / "out"
            program = [sys.executable, "-m", "gantry.deltas.apply", str(delta), key, *sources]
            program += names
            shell = ["bash", "-c", f'exec "$@" > {out}', "bash", *program]
            apply += run(shell, bench.timeout)
            _same(OURS, out, path)
        return Result(OURS, delta.stat().st_size, generate, apply)


def _same(tool: str, out: Path, wanted: Path) -> None:
    if digest_of(out) != digest_of(wanted):
        raise ToolError(f"{tool} made another file than {wanted}")


def measure(bench: Bench, pair: Pair, wanted: Sequence[str]) -> list[Result]:
    """All tools on one pair, ours first."""
    found = []
    runs = [(OURS, lambda: ours(bench, pair))]
    runs += [(each.name, lambda each=each: theirs(bench, pair, each)) for each in TOOLS]
    for name, work in runs:
        if wanted and not any(name.startswith(each) for each in wanted):
            continue
        begin = time.monotonic()
        try:
            result = work()
        except ToolTimeoutError as error:
            say(f"{pair.name}: {error}")
            continue
        found.append(result)
        said = f"{result.size:,} bytes, {result.apply.memory / MIB:.0f} MiB to apply"
        say(f"{pair.name}: {name}: {said} ({time.monotonic() - begin:.0f} s)")
    return found


def main() -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [recipe.name for recipe in RECIPE_LIST]
    parser.add_argument("--pairs", default=",".join(names), help=f"some of {','.join(names)}")
    parser.add_argument("--tools", default="", help="names, or how they begin; default: all")
    parser.add_argument("--timeout", type=float, default=1200.0, help="seconds for each command")
    options = parser.parse_args()
    chosen = options.pairs.split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"--pairs {','.join(sorted(unknown))}: there are {', '.join(names)}")
    if missing := [each for each in PROGRAMS if not shutil.which(each)]:
        parser.error(
            f"not here: {', '.join(missing)}; `make bench-deltas` installs them, "
            f"or apt-get install {' '.join(PACKAGES)}"
        )
    print(f"{machine.describe()}; {time.strftime('%Y-%m-%d')}\n", flush=True)
    before = machine.load()
    if before > QUIET_LOAD:
        say(f"the machine is busy (load {before:.1f}): times will be too high")
    results: dict[str, list[Result]] = {}
    tools = [each for each in options.tools.split(",") if each]
    with tempfile.TemporaryDirectory(prefix="gantry-deltas-", dir=_disk()) as folder:
        bench = Bench(Path(folder), options.timeout)
        for pair in prepare(chosen, CACHE / "deltas-pairs", say):
            results[pair.name] = measure(bench, pair, tools)
            print(f"### {pair.title}\n\n{verdict.table(results[pair.name])}\n", flush=True)
    print(f"{verdict.summary(results)}\n\nLoad: {before:.1f}, {machine.load():.1f}.", flush=True)
    faults = verdict.faults(results)
    for fault in faults:
        print(f"not reached: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _disk() -> str:
    """A folder on a disk: /tmp may be memory, and holds some hundred MB here."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return str(CACHE)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ToolError as error:
        sys.exit(f"error: {error}")

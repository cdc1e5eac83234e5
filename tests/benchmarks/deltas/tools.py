"""The tools beside ours, as Debian packages them, each as a pair of commands.

They know files, not images: each new layer is made from the old one at its place. What they write
is the whole update; casync's is its index and the chunks that the old layer does not have.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("xdelta3", "rdiff", "bsdiff", "casync", "zstd", "time")


@dataclass(frozen=True, slots=True)
class Job:
    """One layer: `old` is a tar, `new` the tar wanted, `delta` and `out` are what is written."""

    old: Path
    new: Path
    delta: Path
    out: Path
    folder: Path  # for what a tool keeps beside


Command = Callable[[Job], list[str]]


@dataclass(frozen=True, slots=True)
class Tool:
    """`size` is the bytes that a device downloads, once `generate` has run."""

    name: str
    generate: Command
    apply: Command
    size: Callable[[Job], int] = lambda job: job.delta.stat().st_size


def _shell(text: str) -> Command:
    """A command of a shell, with the names of a job in braces."""

    def words(job: Job) -> list[str]:
        places = ("old", "new", "delta", "out", "folder")
        named = {name: shlex.quote(str(getattr(job, name))) for name in places}
        return ["bash", "-euo", "pipefail", "-c", text.format(**named)]

    return words


def _zstd(level: int) -> Tool:
    return Tool(
        f"zstd -{level} --patch-from",
        _shell(f"exec zstd -q -f -{level} --patch-from={{old}} {{new}} -o {{delta}}"),
        _shell("exec zstd -q -f -d --long=31 --patch-from={old} {delta} -o {out}"),
    )


def _xdelta3(window: int) -> Tool:
    bytes_ = window * 1024**2
    return Tool(
        f"xdelta3 -9, {window} MiB window",
        _shell(f"exec xdelta3 -q -f -e -9 -S lzma -B {bytes_} -s {{old}} {{new}} {{delta}}"),
        _shell(f"exec xdelta3 -q -f -d -B {bytes_} -s {{old}} {{delta}} {{out}}"),
    )


def _new_chunks(job: Job) -> int:
    """Bytes of the index, and of the chunks that only the new layer has."""
    had, now = ({p.name: p for p in _chunks(job.folder / side)} for side in ("old", "new"))
    return job.delta.stat().st_size + sum(now[n].stat().st_size for n in now if n not in had)


def _chunks(store: Path) -> list[Path]:
    return [path for path in store.rglob("*") if path.is_file()]


TOOLS = (
    Tool(
        "registry pull (gzip)",
        _shell("exec gzip -6 -c {new} > {delta}"),
        _shell("exec gzip -d -c {delta} > {out}"),
    ),
    _zstd(3),
    _zstd(19),
    _xdelta3(8),
    _xdelta3(64),
    Tool(
        "rdiff, 512 B, and zstd -19",
        _shell(
            "rdiff -f -b 512 signature {old} {folder}/signature;"
            "rdiff -f delta {folder}/signature {new} {folder}/raw;"
            "zstd -q -f -19 {folder}/raw -o {delta}"
        ),
        _shell("zstd -q -d -c {delta} | rdiff -f patch {old} - {out}"),
    ),
    Tool(
        "bsdiff",
        _shell("exec bsdiff {old} {new} {delta}"),
        _shell("exec bspatch {old} {out} {delta}"),
    ),
    Tool(
        "casync, 64 KiB",
        _shell(
            "casync make --store={folder}/old {folder}/old.caibx {old};"
            "casync make --store={folder}/new {folder}/new.caibx {new};"
            "cp {folder}/new.caibx {delta}"
        ),
        _shell("exec casync extract --store={folder}/new --seed={old} {folder}/new.caibx {out}"),
        _new_chunks,
    ),
)

"""Layers for tests of deltas: tars of all kinds, and the folders that an engine has of them."""

import hashlib
import io
import os
import random
import stat
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gantry.client.layer_folders import extract
from gantry.deltas.apply import rebuild
from gantry.deltas.create import LayerTar, Options, create
from gantry.deltas.reader import Delta, Names

CONFIG = "sha256:" + 64 * "c"
ROOT = os.geteuid() == 0

# The peak of a process whose parent is large is known to no counter but this one, which begins
# anew with a program.
_MEASURED = """
import re, sys
from gantry.deltas.apply import main
try:
    code = main(sys.argv[1:])
finally:
    peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
    print(f"peak {peak}", file=sys.stderr)
sys.exit(code)
"""


class Bytes(bytes):
    """Bytes that are told by what fits into a line."""

    def __repr__(self) -> str:
        return (
            super().__repr__() if len(self) < 60 else f"<{len(self)} bytes, {digest(self)[7:15]}>"
        )


@dataclass(frozen=True, slots=True)
class Member:
    """An entry of a tar. `size` and `content` of files; `link` of links."""

    name: str
    type: bytes = tarfile.REGTYPE
    content: bytes = Bytes()
    link: str = ""
    mode: int = 0o644
    mtime: float = 1_700_000_000
    uid: int = os.getuid()
    gid: int = os.getgid()
    pax: Mapping[str, str] = field(default_factory=dict)
    device: tuple[int, int] = (0, 0)

    def header(self) -> tarfile.TarInfo:
        found = tarfile.TarInfo(self.name)
        found.type, found.size, found.linkname = self.type, len(self.content), self.link
        found.mode, found.mtime, found.uid, found.gid = self.mode, self.mtime, self.uid, self.gid
        found.devmajor, found.devminor = self.device
        found.pax_headers = dict(self.pax)
        return found


def dice(seed: int) -> random.Random:
    """What was seen can be seen again."""
    return random.Random(seed)  # noqa: S311


def tar_of(members: Iterable[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar as Python writes it, in one of tarfile's formats."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for member in members:
            tar.addfile(member.header(), io.BytesIO(member.content))
    return Bytes(out.getvalue())


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer(folder: Path, content: bytes) -> LayerTar:
    """A layer on disk."""
    diff_id = digest(content)
    path = folder / f"{diff_id[7:]}.tar"
    path.write_bytes(content)
    return LayerTar(diff_id, path)


@dataclass(frozen=True, slots=True)
class Made:
    """A delta, and the folders of its sources by diffID."""

    delta: Path
    folders: Mapping[str, Path]
    targets: Sequence[LayerTar]
    bare: bool = False

    @property
    def names(self) -> Names:
        """What it is for."""
        return Names(CONFIG, tuple(self.folders), tuple(each.diff_id for each in self.targets))

    def open(self) -> Delta:
        """The delta, read by who knows its names only where it holds none. Raises DeltaError."""
        return Delta.open(self.delta, self.names if self.bare else None)

    def rebuilt(self, diff_id: str) -> bytes:
        """A layer's tar. Raises DeltaError."""
        out = bytearray()
        rebuild(self.open(), diff_id, self.folders, out.extend)
        return bytes(out)


def made(
    folder: Path, sources: Sequence[bytes], targets: Sequence[bytes], bare: bool = False
) -> Made:
    """Make a delta between layers, and the folders that a device has of the old ones."""
    folder.mkdir(parents=True, exist_ok=True)
    old = [layer(folder, each) for each in dict.fromkeys(sources)]
    new = [layer(folder, each) for each in dict.fromkeys(targets)]
    return extracted(folder, old, new, bare)


def extracted(
    folder: Path, old: Sequence[LayerTar], new: Sequence[LayerTar], bare: bool = False
) -> Made:
    """The same of layers on disk."""
    delta = folder / "made.gantry-delta"
    create(old, new, CONFIG, delta, Options(bare=bare))
    folders = {}
    for number, each in enumerate(old):
        folders[each.diff_id] = folder / f"files{number}"
        extract(each.path, folders[each.diff_id])
    return Made(delta, folders, new, bare)


def apply_measured(
    made: Made, diff_id: str, out: Path, timeout: float = 60.0
) -> tuple[int, str, int]:
    """Apply as a device does, in a process of its own: exit code, its words, peak in bytes."""
    given = [w for key, place in made.folders.items() for w in ("--source", f"{key}={place}")]
    if made.bare:
        given += ["--config", CONFIG]
        given += [w for each in made.targets for w in ("--layer", each.diff_id)]
    words = [sys.executable, "-c", _MEASURED, str(made.delta), diff_id, *given]
    with out.open("wb") as stream:
        done = subprocess.run(
            words, stdout=stream, stderr=subprocess.PIPE, text=True, check=False, timeout=timeout
        )
    said, _, peak = done.stderr.rpartition("peak ")
    return done.returncode, said.strip(), int(peak) * 1024


def is_whiteout(path: Path) -> bool:
    found = path.lstat()
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0

"""Wheels for a Raspberry Pi as a tree: pip fetches those of aarch64, and nothing is run."""

import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.deltas.tree import Entry, Tree, tree_of

SITE_PACKAGES = "usr/local/lib/python3.11/site-packages"
PLATFORMS = ("manylinux2014_aarch64", "manylinux_2_28_aarch64")


def fetch(wheels: Sequence[str], folder: Path) -> list[Path]:
    """The files of `name==version` each, for CPython 3.11 on aarch64.

    Raises:
        subprocess.CalledProcessError: pip cannot, and has said why on stderr.
    """
    places = [word for each in PLATFORMS for word in ("--platform", each)]
    python = ("--python-version", "3.11", "--implementation", "cp")
    abis = ("--abi", "cp311", "--abi", "abi3", "--abi", "none")
    words = ["-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *places, *python]
    subprocess.run([sys.executable, *words, *abis, "-d", str(folder), *wheels], check=True)
    return sorted(folder.glob("*.whl"))


def unpack(wheels: Sequence[Path]) -> Tree:
    """What pip installs of them, without compiled modules, whose content is another every time."""
    return tree_of(entry for wheel in wheels for entry in _files(wheel))


def _files(wheel: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            content = archive.read(member)
            mode = (member.external_attr >> 16) & 0o777 or 0o644
            name = f"{SITE_PACKAGES}/{member.filename}"
            yield Entry(name, mode=mode, read=lambda content=content: content)

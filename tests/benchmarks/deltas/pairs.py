"""The pairs of images: real packages of arm64, made once and kept by their recipes.

Archives move on: a pair of Debian's is what they had on the day when it was made. Its folder tells
which packages changed (`pair.json`).
"""

import hashlib
import json
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.benchmarks.deltas import debian, wheels
from tests.benchmarks.deltas.debian import Debian
from tests.benchmarks.deltas.tree import Entry, Tree, renamed, tree_of, with_times, write

Progress = Callable[[str], None]

RECIPES = 3  # a new number makes all of them anew
ROOT = Path(__file__).parents[3]
POINT_RELEASE, UPDATED = 1783764000, 1795824000  # 2026-07-11 and 2026-11-28
SMALLEST = ("?priority(required)", "apt", "base-files")
SYSTEM = (
    *SMALLEST,
    *("ca-certificates", "curl", "git", "openssh-client", "openssl", "perl", "python3"),
    *("python3-lxml", "python3-venv", "rsync", "rsyslog", "tzdata", "xz-utils"),
)
BASE = (*SMALLEST, "ca-certificates", "python3-minimal", "libssl3")
OLD_WHEELS = (
    *("numpy==1.26.3", "cryptography==42.0.8", "pydantic-core==2.20.1", "pydantic==2.8.2"),
    *("aiohttp==3.9.5", "PyYAML==6.0.1", "requests==2.32.2"),
)
NEW_WHEELS = (
    *("numpy==1.26.4", "cryptography==43.0.3", "pydantic-core==2.23.4", "pydantic==2.9.2"),
    *("aiohttp==3.10.10", "PyYAML==6.0.2", "requests==2.32.3"),
)
EXAMPLE = ROOT / "examples" / "opentrons-api"
CHANGED_FILE = "app/opentrons_service/web.py"
SMALL_BASE, SMALL_LAYER, SMALL_CHANGE = 3_700_000, 161_000, 1_000


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images, each as the tars of its layers, from the lowest."""

    name: str
    title: str
    old: tuple[Path, ...]
    new: tuple[Path, ...]

    def replaced(self) -> tuple[Path, ...]:
        """The old layers that the new image has no more: what other tools are given."""
        kept = {digest_of(path) for path in self.new}
        return tuple(path for path in self.old if digest_of(path) not in kept)

    def changed(self) -> tuple[Path, ...]:
        """The new layers that the old image does not have: what a registry's pull fetches."""
        had = {digest_of(path) for path in self.old}
        return tuple(path for path in self.new if digest_of(path) not in had)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a pair is made: `make` gives the trees of the old layers, and of the new ones."""

    name: str
    title: str
    make: Callable[["Kitchen"], tuple[list[Tree], list[Tree]]]


def digest_of(path: Path) -> str:
    """A layer's diffID."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


class Kitchen:
    """Fetches what recipes share, each once."""

    def __init__(self, folder: Path, say: Progress) -> None:
        self._folder, self._say = folder, say
        self._trees: dict[object, Tree] = {}

    def debian(self, system: Debian) -> Tree:
        """The tree of a system."""
        if system not in self._trees:
            kind = "with security updates" if system.security else "as released"
            self._say(f"Debian {debian.SUITE} {kind}: {len(system.packages)} packages and theirs")
            debs = debian.fetch(system, self._new_folder())
            self._trees[system] = debian.unpack(debs, system.at)
        return self._trees[system]

    def wheels(self, names: Sequence[str], at: int) -> Tree:
        """The tree of wheels, installed at `at`."""
        if names not in self._trees:
            self._say(f"wheels: {', '.join(names)}")
            self._trees[names] = wheels.unpack(wheels.fetch(names, self._new_folder()))
        return with_times(self._trees[names], at)

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self._folder))


def _security(kitchen: Kitchen) -> tuple[list[Tree], list[Tree]]:
    old = kitchen.debian(Debian(SYSTEM, False, POINT_RELEASE))
    return [old], [kitchen.debian(Debian(SYSTEM, True, UPDATED))]


def _wheels(kitchen: Kitchen) -> tuple[list[Tree], list[Tree]]:
    old = kitchen.wheels(OLD_WHEELS, POINT_RELEASE)
    return [old], [kitchen.wheels(NEW_WHEELS, UPDATED)]


def _one_line(kitchen: Kitchen) -> tuple[list[Tree], list[Tree]]:
    below = [
        kitchen.debian(Debian(BASE, False, POINT_RELEASE)),
        kitchen.wheels(OLD_WHEELS, POINT_RELEASE),
    ]
    old = tree_of(_example(POINT_RELEASE))
    entry = old[CHANGED_FILE]
    text = entry.read().replace(b"\n\n\n", b"\n\nSLOW_SECONDS = 2.5  # said in the log\n\n", 1)
    if text == entry.read():
        raise ValueError(f"{CHANGED_FILE}: no place for a line, choose another one")
    new = tree_of(_example(UPDATED))
    new[CHANGED_FILE] = replace(new[CHANGED_FILE], read=lambda: text)
    return [*below, old], [*below, new]


def _example(at: int) -> Iterator[Entry]:
    """What the example's last `COPY` brings, of a tree that was checked out at `at`."""
    folder = EXAMPLE / "opentrons_service"
    for path in sorted(folder.rglob("*.py")):
        name = f"app/opentrons_service/{path.relative_to(folder)}"
        yield Entry(name, mtime=at, read=path.read_bytes)


def _base_bump(kitchen: Kitchen) -> tuple[list[Tree], list[Tree]]:
    """On a new base every later step of a build runs again: same content, new times."""
    old = [
        kitchen.debian(Debian(BASE, False, POINT_RELEASE)),
        kitchen.wheels(OLD_WHEELS, POINT_RELEASE),
    ]
    return old, [
        kitchen.debian(Debian(BASE, True, UPDATED)),
        kitchen.wheels(OLD_WHEELS, UPDATED),
    ]


def _timestamps(kitchen: Kitchen) -> tuple[list[Tree], list[Tree]]:
    old = kitchen.wheels(OLD_WHEELS, POINT_RELEASE)
    return [old], [kitchen.wheels(OLD_WHEELS, UPDATED)]


def _renamed(kitchen: Kitchen) -> tuple[list[Tree], list[Tree]]:
    old = kitchen.wheels(OLD_WHEELS, POINT_RELEASE)
    return [old], [renamed(old, "usr/local/lib/python3.11", "opt/application/lib")]


def _small(kitchen: Kitchen) -> tuple[list[Tree], list[Tree]]:
    """Bytes that no compressor shortens are changed to others: the least that can be sent."""
    tree, size = {}, 0
    for name, entry in sorted(kitchen.debian(Debian(BASE, False, POINT_RELEASE)).items()):
        weight = 512 + len(entry.read())
        if size + weight <= SMALL_BASE:
            tree[name], size = entry, size + weight
    chance = random.Random(161)  # noqa: S311 - not a secret
    old = bytearray(chance.randbytes(SMALL_LAYER - 2560))
    new = bytearray(old)
    new[80_000 : 80_000 + SMALL_CHANGE] = chance.randbytes(SMALL_CHANGE)
    layers = [
        tree_of([Entry("app/data", mtime=at, read=lambda content=content: bytes(content))])
        for at, content in ((POINT_RELEASE, old), (UPDATED, new))
    ]
    return [tree, layers[0]], [tree, layers[1]]


RECIPE_LIST = (
    Recipe("wheels", "seven Python wheels bumped", _wheels),
    Recipe("security", "Debian with its security updates", _security),
    Recipe("one-line", "one line of examples/opentrons-api", _one_line),
    Recipe("base-bump", "new base under the same application, two layers", _base_bump),
    Recipe("timestamps", "same content, new timestamps", _timestamps),
    Recipe("renamed", "folders renamed", _renamed),
    Recipe("small", "1 kB of a layer of 161 kB, base of 3.7 MB", _small),
)


def prepare(names: Sequence[str], cache: Path, say: Progress) -> Iterator[Pair]:
    """The pairs of those names, each as soon as it is there; made where the cache has none.

    Raises:
        subprocess.CalledProcessError: packages cannot be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="gantry-pairs-") as folder:
        kitchen = Kitchen(Path(folder), say)
        for recipe in RECIPE_LIST:
            if recipe.name in names:
                yield _kept(recipe, cache, kitchen, say)


def _kept(recipe: Recipe, cache: Path, kitchen: Kitchen, say: Progress) -> Pair:
    key = repr((RECIPES, recipe.name, SYSTEM, BASE, OLD_WHEELS, NEW_WHEELS))
    place = cache / f"{recipe.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    if not (place / "pair.json").exists():
        say(f"pair {recipe.name}: {recipe.title}")
        shutil.rmtree(place, ignore_errors=True)
        old, new = recipe.make(kitchen)
        for side, layers in (("old", old), ("new", new)):
            for number, tree in enumerate(layers):
                write(tree, place / side / f"{number}.tar")
        about = {"title": recipe.title, **_difference(old, new)}
        (place / "pair.json").write_text(json.dumps(about, indent=2) + "\n")
    sides = (tuple(sorted((place / side).glob("*.tar"))) for side in ("old", "new"))
    return Pair(recipe.name, recipe.title, *sides)


def _difference(old: Sequence[Tree], new: Sequence[Tree]) -> dict[str, object]:
    """How many files each side has, how many are other ones, and which packages changed."""
    before, after = ({n: e for tree in side for n, e in tree.items()} for side in (old, new))
    changed = sum(
        name not in before or before[name].read() != entry.read() for name, entry in after.items()
    )
    return {"files": len(after), "changed": changed, "packages": _packages(before, after)}


def _packages(before: Tree, after: Tree) -> list[str]:
    def versions(tree: Tree) -> dict[str, str]:
        status = tree.get(debian.STATUS)
        found: dict[str, str] = {}
        name = ""
        for line in (status.read().decode() if status else "").splitlines():
            key, _, value = line.partition(": ")
            if key == "Package":
                name = value
            elif key == "Version":
                found[name] = value
        return found

    was, now = versions(before), versions(after)
    return [f"{name} {was.get(name)} → {now[name]}" for name in now if was.get(name) != now[name]]

"""What a backup holds, whether it is whole, and the engine that it comes from and goes to."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import docker
from docker import DockerClient
from docker.errors import DockerException

from gantry.deployment import paths
from gantry.deployment.progress import Progress, step

FORMAT = 1
MANIFEST = "manifest.json"
DATABASE = "database.dump"
STACK_FILE = "stack.yaml"
# Besides the database: what must be there, and what may be (images may be in a bucket instead).
NEEDED = ("identity", "git", "nats")
OPTIONAL = ("registry",)
MIB = 1024 * 1024
ENGINE_SECONDS = 900


class BackupError(Exception):
    """What could not be saved or brought back, and what to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file of a backup: its size in bytes and its SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds. `schema` is the database's migration; `made` is in UTC, ISO 8601."""

    fleet: str
    made: str
    gantry: str
    schema: str
    parts: dict[str, Part] = field(default_factory=dict)
    format: int = FORMAT


def check(folder: Path, progress: Progress) -> Manifest:
    """Read a whole backup and compare it with its manifest.

    Raises:
        BackupError: it is none, is not whole, or was made by a Gantry that this one does not know.
    """
    manifest = _manifest(folder)
    with step(f"check {folder}", progress):
        for name, part in manifest.parts.items():
            try:
                with (folder / name).open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise BackupError(
                    f"{folder / name}: {error.strerror}: the backup is not whole"
                ) from error
            if digest != part.sha256:
                raise BackupError(f"{folder / name} is not what was saved: take another backup")
    return manifest


def _manifest(folder: Path) -> Manifest:
    try:
        known = json.loads((folder / MANIFEST).read_text())
        if known["format"] != FORMAT:
            raise BackupError(f"{folder}: format {known['format']}: use the Gantry that made it")
        parts = {name: Part(**each) for name, each in known.pop("parts").items()}
        manifest = Manifest(parts=parts, **known)
        is_known = manifest.schema in _schemas()
    except OSError as error:
        raise BackupError(f"{folder} is no backup: {MANIFEST}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupError(f"{folder / MANIFEST} is not one of a backup: {error}") from error
    expected = {DATABASE, STACK_FILE, *(f"{each}.tar" for each in NEEDED)}
    if lacking := expected - parts.keys():
        raise BackupError(f"{folder} lacks {', '.join(sorted(lacking))}: it is no whole backup")
    if unknown := parts.keys() - expected - {f"{each}.tar" for each in OPTIONAL}:
        raise BackupError(f"{folder / MANIFEST} names {', '.join(sorted(unknown))}: no such part")
    if not is_known:
        raise BackupError(
            f"{folder} was made by Gantry {manifest.gantry}, whose database (schema "
            f"{manifest.schema}) is newer than this one's: check that version out"
        )
    return manifest


def _schemas() -> set[str]:
    folder = paths.repository_root() / "src" / "gantry" / "api" / "migrations" / "versions"
    return {file.stem.partition("_")[0] for file in folder.glob("[0-9]*.py")}


@contextmanager
def engine() -> Iterator[DockerClient]:
    try:
        client = docker.from_env(timeout=ENGINE_SECONDS)
    except DockerException as error:
        raise BackupError(f"no Docker engine answers ({error}): run `make setup`") from error
    try:
        yield client
    finally:
        client.close()


def text_of(output: object) -> str:
    """What a command in a container said, for a message."""
    return output.decode(errors="replace").strip() if isinstance(output, bytes) else ""

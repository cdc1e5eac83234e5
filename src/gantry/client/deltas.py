"""Deltas between images that are here: made, and applied to rebuild an image."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from gantry.client import image_archives, image_files
from gantry.client.errors import ClientError, NotFoundError, UsageError
from gantry.client.image_files import ImageFiles
from gantry.client.layer_folders import extract
from gantry.deltas import inspect
from gantry.deltas.apply import rebuild
from gantry.deltas.inspect import Description, FileDescription
from gantry.deltas.names import names_of_pair
from gantry.deltas.reader import BareError, Delta, DeltaError

Say = Callable[[str], None]
Moved = Callable[[int, int], None]

CONFIG_SUFFIX, FILES_SUFFIX = ".config.json", ".files.json"
_CONFIG_LIMIT = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class Made:
    """A delta that was made: bytes of the file, of the layers in it, and how many these are."""

    path: Path
    config: Path
    size: int
    layers: int
    whole: int


def config_path(delta: Path) -> Path:
    """Where `create` leaves the new image's configuration, and `apply` looks for it."""
    return delta.with_name(delta.name + CONFIG_SUFFIX)


def files_path(delta: Path) -> Path:
    """Where `create` leaves how each file got into the delta, and `describe` looks for it."""
    return delta.with_name(delta.name + FILES_SUFFIX)


def create(
    old: Sequence[str], new: str, out: Path, platform: str | None, say: Say, moved: Moved
) -> Made:
    """Make the delta from the images `old` to `new`, and put the configuration of `new` beside it.
    `moved` hears how much of how much work is done, in bytes.

    Raises:
        ClientError: one of its kinds; the file is then as it was.
    """
    from gantry.deltas.create import LayerTar
    from gantry.deltas.create import create as make

    if not out.parent.is_dir():
        raise UsageError(f"{out.parent} is no folder: {out.name} cannot be written there")
    with _scratch(out) as name:
        folder = Path(name)
        sources = [image_files.unpack(each, folder, platform, say) for each in old]
        target = image_files.unpack(new, folder, platform, say)
        had = {key: LayerTar(key, path) for image in sources for key, path in image.layers}
        needed = _above_what_is_shared(sources, target)
        wanted = [LayerTar(key, path) for key, path in needed]
        whole = sum(each.path.stat().st_size for each in wanted)
        say(f"{len(wanted)} of {len(target.layers)} layers are new, {whole / 1e6:.1f} MB unpacked")
        try:
            summary = make(
                list(had.values()),
                wanted,
                target.digest,
                out,
                progress=lambda at: moved(at.done, at.total),
            )
            config_path(out).write_bytes(target.config)
            files = {"delta": _digest_of(out), "layers": [asdict(each) for each in summary.layers]}
            files_path(out).write_text(json.dumps(files) + "\n")
        except (DeltaError, MemoryError) as error:
            raise ClientError(f"the delta cannot be made: {error}") from error
        except OSError as error:
            raise ClientError(f"{out} cannot be written: {error.strerror or error}") from error
    return Made(out, config_path(out), out.stat().st_size, len(wanted), whole)


def _above_what_is_shared(
    sources: Sequence[ImageFiles], target: ImageFiles
) -> tuple[tuple[str, Path], ...]:
    """An engine keeps a layer only where it has all those below it, too."""
    shared = 0
    for source in sources:
        common = 0
        for ours, theirs in zip(source.diff_ids, target.diff_ids, strict=False):
            if ours != theirs:
                break
            common += 1
        shared = max(shared, common)
    needed = dict(target.layers[shared:])  # the same layer twice is sent once
    return tuple(needed.items())


def apply(
    path: Path,
    sources: Sequence[str],
    config: Path | None,
    out: Path | None,
    tag: str | None,
    platform: str | None,
    say: Say,
) -> str:
    """Rebuild the delta's image into the archive `out`, or into the engine; the image's id.

    Raises:
        ClientError: one of its kinds; nothing is left then.
    """
    _check_file(path)
    content = _config(config or config_path(path))
    with _scratch(out or Path.cwd() / "image") as name:
        folder = Path(name)
        delta, tars = _with_sources(path, content, sources, folder, platform, say)
        _check_config(delta, content, config or config_path(path))
        layers = _layers(delta, content, tars, folder, say)
        archive = folder / "image.tar"
        image_archives.write(archive, content, layers, tag)
        if out is None:
            image_archives.load(archive)
        else:
            archive.replace(out)
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFoundError(f"there is no file {path}") from None
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror or error}") from error
    except BareError as error:
        raise UsageError(
            f"{path} holds no names of layers, as devices download it: give the images that it was "
            "made from (--source) and the configuration of the new one (--config)"
        ) from error
    except DeltaError as error:
        raise ClientError(f"{path}: {error}") from error


def _check_file(path: Path) -> None:
    """What is no delta is said before anything is unpacked. Raises ClientError."""
    with _reading(path), suppress(BareError):
        Delta.open(path)


def _with_sources(
    path: Path,
    config: bytes | None,
    sources: Sequence[str],
    folder: Path,
    platform: str | None,
    say: Say,
) -> tuple[Delta, dict[str, Path]]:
    """The delta, and the tars of its sources' layers by diffID. Raises ClientError."""
    if os.geteuid() != 0:
        raise UsageError("a delta is applied to files with their owners: run it as root (sudo)")
    images = [image_files.unpack(each, folder / "tars", platform, say) for each in sources]
    tars = {key: tar for image in images for key, tar in image.layers}
    with _reading(path):
        try:
            return Delta.open(path), tars
        except BareError:
            if config is None:
                raise
        digest = f"sha256:{hashlib.sha256(config).hexdigest()}"
        names = names_of_pair([each.diff_ids for each in images], digest, _diff_ids(config))
        return Delta.open(path, names), tars


def describe(
    path: Path,
    sources: Sequence[str] = (),
    config: Path | None = None,
    platform: str | None = None,
    say: Say = lambda _: None,
) -> Description:
    """What is in a delta; its files as the images `sources` and the delta tell of them, or where
    none are given, as `create` has left them beside. Raises ClientError."""
    if sources:
        return _described(path, sources, config, platform, say)
    with _reading(path):
        found = inspect.describe(path)
        files = _files_of(path)
    layers = (replace(each, files=files.get(each.diff_id, ())) for each in found.layers)
    return replace(found, layers=tuple(layers))


def _described(
    path: Path, sources: Sequence[str], config: Path | None, platform: str | None, say: Say
) -> Description:
    _check_file(path)
    place = config or config_path(path)
    content = _config(place) if config or place.exists() else None
    with _scratch(Path.cwd() / "image") as name:
        delta, tars = _with_sources(path, content, sources, Path(name), platform, say)
        folders = _folders(delta, tars, Path(name))
        with _reading(path):
            return inspect.describe(path, folders, delta.names)


def _files_of(path: Path) -> dict[str, tuple[FileDescription, ...]]:
    """The files by their layers' diffIDs; none where they are of another delta, or not there."""
    try:
        told = json.loads(files_path(path).read_text())
        if told["delta"] != _digest_of(path):
            return {}
        return {
            str(layer["diff_id"]): tuple(
                FileDescription(
                    path=str(each["path"]),
                    size=int(each["size"]),
                    how=str(each["how"]),
                    source=each["source"],
                    encoded=int(each["encoded"]),
                )
                for each in layer["files"]
            )
            for layer in told["layers"]
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError) as error:
        raise ClientError(f"{files_path(path)} is damaged: remove it ({error!r})") from error


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _config(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_CONFIG_LIMIT + 1)
    except OSError as error:
        raise NotFoundError(
            f"{path} cannot be read ({error.strerror or error}): `gantry delta create` puts the "
            "image's configuration there; give another place with --config"
        ) from error
    return content


def _check_config(delta: Delta, content: bytes, path: Path) -> None:
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != delta.config:
        raise ClientError(
            f"{path} is {found}, and the delta is for the configuration {delta.config}"
        )


def _diff_ids(config: bytes) -> list[str]:
    try:
        return [str(each) for each in json.loads(config)["rootfs"]["diff_ids"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ClientError(f"the configuration names no layers ({error!r})") from error


def _layers(
    delta: Delta, config: bytes, tars: dict[str, Path], folder: Path, say: Say
) -> list[tuple[str, Path]]:
    """The image's layers by diffID: rebuilt, or as a source has them."""
    wanted = _diff_ids(config)
    rebuilt = {each.diff_id for each in delta.layers}
    _check_here(wanted, {*tars, *rebuilt})
    folders = _folders(delta, tars, folder)
    found = []
    for diff_id in wanted:
        if diff_id not in rebuilt:
            path = tars[diff_id]
        else:
            path = folder / f"rebuilt-{diff_id.removeprefix('sha256:')}.tar"
            say(f"rebuilding {diff_id[:19]}")
            _rebuild(delta, diff_id, folders, path)
        found.append((diff_id, path))
    return found


def _folders(delta: Delta, tars: Mapping[str, Path], folder: Path) -> dict[str, Path]:
    """The source layers' files, each in a folder of its own."""
    _check_here(delta.sources, tars)
    folders = {}
    for number, diff_id in enumerate(delta.sources):
        folders[diff_id] = folder / f"files{number}"
        extract(tars[diff_id], folders[diff_id])
    return folders


def _check_here(needed: Iterable[str], here: Collection[str]) -> None:
    for diff_id in needed:
        if diff_id not in here:
            raise ClientError(
                f"the delta needs the layer {diff_id}, which none of the images given has: name "
                "those that it was made from, with --source"
            )


def _rebuild(delta: Delta, diff_id: str, folders: dict[str, Path], path: Path) -> None:
    try:
        with path.open("wb") as out:
            rebuild(delta, diff_id, folders, out.write)
    except DeltaError as error:
        raise ClientError(f"{delta.path}: {error}") from error
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror or error}") from error


def _scratch(beside: Path) -> "tempfile.TemporaryDirectory[str]":
    """On the disk where the result goes: /tmp may be memory, and layers are large."""
    try:
        return tempfile.TemporaryDirectory(prefix=".gantry-delta-", dir=beside.parent)
    except OSError as error:
        raise ClientError(
            f"{beside.parent} cannot be written: {error.strerror or error}"
        ) from error

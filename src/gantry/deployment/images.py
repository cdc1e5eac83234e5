"""Container images from the recipes in `images/`: built once, known by what they are made of.

An image's tag holds the hash of its recipe: Dockerfile, context files, base, and the roles where a
playbook is applied to it. Who asks for an image that exists gets it at once; who changes a file of
its context gets a new one. Infra, the tests and the CLI ask here; `python -m
gantry.deployment.images NAME…` does by hand.
"""

import hashlib
import io
import json
import os
import sys
import tarfile
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException, ImageNotFound

from gantry.builder import bases
from gantry.contracts.device_types import Architecture
from gantry.deployment import playbooks
from gantry.deployment.paths import cache_home, repository_root
from gantry.deployment.progress import Progress, line_printer, step
from gantry.deployment.superseded import LABEL, remove_superseded

BUILD_TIMEOUT_SECONDS = 1800
TAG_HASH_LENGTH = 12
RECIPE_KEYS = ("from", "context", "arch", "bases", "playbook")
IGNORED = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache")
# Handed to builds when set: predefined build arguments, which no layer keeps.
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class ImageError(Exception):
    """A recipe is wrong or a build failed; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image in the local engine."""

    tag: str
    id: str
    hash: str


@dataclass(frozen=True, slots=True)
class ContextFile:
    """A file of a build context: its path from the repository's root, mode 0755 or 0644."""

    path: str
    mode: int
    source: Path


@dataclass(frozen=True, slots=True)
class Plan:
    """An image that is to exist: its tag, and what it is made from.

    `per_arch`: it can be had for several architectures, so its name bears the one it is for.
    `base` is None for those that mmdebstrap makes; their `recipe` is set instead. `carried` are
    bases whose archives the image holds as files: `bases/<name>-<arch>.tar.zst` of its context.
    `playbook` is applied to what the Dockerfile made; the image is what it leaves.
    """

    name: str
    tag: str
    hash: str
    arch: Architecture
    per_arch: bool
    base: "Plan | None" = None
    recipe: bases.BaseRecipe | None = None
    dockerfile: str = ""
    files: tuple[ContextFile, ...] = ()
    carried: "tuple[Plan, ...]" = ()
    playbook: playbooks.Playbook | None = None


def plan_image(name: str, root: Path, arch: Architecture | None = None) -> Plan:
    """What `images/<name>` would be built to. Reads files; asks no engine.

    `arch` chooses among the architectures of the base that the recipe ends in; without it, the
    recipe's own `arch`, else amd64.

    Raises:
        ImageError: no such recipe, a wrong key or path, or an architecture it is not made for.
    """
    folder = root / "images" / name
    try:
        table = tomllib.loads((folder / "recipe.toml").read_text())
    except FileNotFoundError as error:
        known = ", ".join(recipe_names(root))
        raise ImageError(f"no images/{name}/recipe.toml: the recipes are {known}") from error
    except tomllib.TOMLDecodeError as error:
        raise ImageError(f"images/{name}/recipe.toml: {error}") from error
    if "base" in table:
        return _plan_base(folder, arch or Architecture.AMD64)
    unknown = set(table) - set(RECIPE_KEYS)
    if unknown or not isinstance(table.get("from"), str):
        problem = f"unknown keys {', '.join(sorted(unknown))}" if unknown else "no `from`"
        raise ImageError(f"images/{name}/recipe.toml: {problem}; it takes {', '.join(RECIPE_KEYS)}")
    fixed = Architecture(table["arch"]) if "arch" in table else None
    if arch and fixed and arch is not fixed:
        raise ImageError(f"image {name} is made for {fixed} only, not for {arch}")
    base = plan_image(table["from"], root, arch or fixed)
    files = tuple(context_files(root, table.get("context", [])))
    dockerfile = (folder / "Dockerfile").read_text()
    carried = tuple(_plan_carried(each, root) for each in table.get("bases", ()))
    playbook = table.get("playbook")
    applied = playbook_files(root, playbook) if playbook else ()
    below = "".join(each.hash for each in (base, *carried))
    key = recipe_hash(table, dockerfile, (*files, *applied), below)
    per_arch = base.per_arch and fixed is None
    return Plan(
        name=name,
        tag=_tag(name, base.arch, key, per_arch=per_arch),
        hash=key,
        arch=base.arch,
        per_arch=per_arch,
        base=base,
        dockerfile=dockerfile,
        files=files,
        carried=carried,
        playbook=playbooks.Playbook(root, playbook) if playbook else None,
    )


def _plan_carried(name: str, root: Path) -> Plan:
    """The base that a recipe's `bases` names as `<recipe>:<architecture>`."""
    recipe, _, arch = name.partition(":")
    if arch not in set(Architecture):
        raise ImageError(f"bases: {name!r} is not <recipe>:<{'|'.join(Architecture)}>")
    return _plan_base(root / "images" / recipe, Architecture(arch))


def _plan_base(folder: Path, arch: Architecture) -> Plan:
    recipe = bases.read_recipe(folder / "recipe.toml")
    if arch not in recipe.architectures:
        raise ImageError(
            f"base {recipe.name} is not made for {arch}: its recipe says "
            f"{', '.join(recipe.architectures)}"
        )
    key = bases.base_hash(recipe, arch, bases.host_bundle())
    per_arch = len(recipe.architectures) > 1
    tag = _tag(recipe.name, arch, key, per_arch=per_arch)
    return Plan(recipe.name, tag, key, arch, per_arch, recipe=recipe)


def _tag(name: str, arch: Architecture, key: str, *, per_arch: bool) -> str:
    suffix = f"-{arch}" if per_arch else ""
    return f"gantry/{name}{suffix}:{key[:TAG_HASH_LENGTH]}"


def recipe_names(root: Path) -> list[str]:
    """The names of all recipes under `images/`."""
    return sorted(each.parent.name for each in (root / "images").glob("*/recipe.toml"))


def context_files(root: Path, paths: Iterable[str]) -> Iterator[ContextFile]:
    """The files under `paths`, sorted, each once; caches of tools are left out.

    A path may end with a pattern: `folder/*.py` are such files of this folder alone. Modes are what
    git keeps of them, so that a umask changes no hash.

    Raises:
        ImageError: a path that is not there or has nothing, or that leaves the repository.
    """
    found: dict[str, Path] = {}
    for path in paths:
        for each in _files(root, path):
            relative = each.relative_to(root)
            if each.is_file() and not set(relative.parts) & set(IGNORED):
                found[relative.as_posix()] = each
    for name, source in sorted(found.items()):
        mode = 0o755 if source.stat().st_mode & 0o100 else 0o644
        yield ContextFile(path=name, mode=mode, source=source)


def _files(root: Path, path: str) -> list[Path]:
    folder, _, name = path.rpartition("/")
    start = root / folder if "*" in name else root / path
    found = [start] if start.is_file() else list(start.glob(name if "*" in name else "**/*"))
    if not found or not start.resolve().is_relative_to(root.resolve()):
        raise ImageError(f"context path {path!r} is not in the repository ({root})")
    return found


def playbook_files(root: Path, playbook: str) -> tuple[ContextFile, ...]:
    """What decides what a playbook does: itself, all roles, Ansible's settings. No READMEs.

    Raises:
        ImageError: there is no such playbook.
    """
    found = context_files(root, (playbook, *playbooks.CONTEXT))
    return tuple(each for each in found if each.source.suffix != ".md")


def recipe_hash(
    table: dict[str, object], dockerfile: str, files: Iterable[ContextFile], base: str
) -> str:
    """sha256 in hex over all that decides what the image holds."""
    content = [
        [each.path, each.mode, hashlib.sha256(each.source.read_bytes()).hexdigest()]
        for each in files
    ]
    parts = {"recipe": table, "dockerfile": dockerfile, "files": content, "base": base}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def build_image(
    name: str,
    progress: Progress,
    *,
    arch: Architecture | None = None,
    root: Path | None = None,
    client: docker.DockerClient | None = None,
) -> ImageRef:
    """Make `images/<name>` exist in the engine, its bases first; at once where it does.

    Two that want the same image at the same time build it once.

    Raises:
        ImageError: a wrong recipe, no engine, or a failed build with its last lines.
    """
    plan = plan_image(name, root or repository_root(), arch)
    if client is not None:
        return _ensure(plan, client, progress)
    try:
        client = docker.from_env(timeout=BUILD_TIMEOUT_SECONDS)
    except DockerException as error:
        raise ImageError(f"no Docker engine answers ({error}): run `make setup`") from error
    try:
        return _ensure(plan, client, progress)
    finally:
        client.close()


def _ensure(plan: Plan, client: docker.DockerClient, progress: Progress) -> ImageRef:
    if found := _find(plan, client):
        return found
    if plan.base:
        _ensure(plan.base, client, progress)
    locks = cache_home() / "locks"
    locks.mkdir(exist_ok=True)
    with bases.locked(locks / f"{plan.tag.replace('/', '-')}.lock"):
        if found := _find(plan, client):
            return found
        with step(f"image {plan.tag}", progress) as say:
            if plan.recipe:
                _load_base(plan, client, say)
            else:
                _build(plan, client, say)
    found = _find(plan, client)
    if found is None:
        raise ImageError(f"{plan.tag} was built, but the engine does not have it: try again")
    return found


def _find(plan: Plan, client: docker.DockerClient) -> ImageRef | None:
    try:
        image = client.images.get(plan.tag)
    except ImageNotFound:
        return None
    return ImageRef(tag=plan.tag, id=str(image.id), hash=plan.hash)


def _load_base(plan: Plan, client: docker.DockerClient, progress: Progress) -> None:
    try:
        base = _make_base(plan, progress)
        progress("loading it into the engine")
        with bases.archive_stream(base) as stream:
            client.images.load(stream)
    except bases.BaseError as error:
        raise ImageError(str(error)) from error
    repository, _, tag = plan.tag.partition(":")
    client.images.get(base.image_id).tag(repository, tag)


def _build(plan: Plan, client: docker.DockerClient, progress: Progress) -> None:
    assert plan.base  # noqa: S101 - a plan has a base or a base recipe
    arguments = {"BASE": plan.base.tag}
    arguments |= {each: os.environ[each] for each in PROXY_VARIABLES if each in os.environ}
    output: list[str] = []
    built = ""
    try:
        archives = [(each, _make_base(each, progress)) for each in plan.carried]
    except bases.BaseError as error:
        raise ImageError(str(error)) from error
    for event in client.api.build(
        fileobj=io.BytesIO(context_archive(plan, archives)),
        custom_context=True,
        buildargs=arguments,
        labels={LABEL: plan.name, "gantry.recipe": plan.hash},
        # What a playbook is yet to be applied to is not the image.
        tag=None if plan.playbook else plan.tag,
        rm=True,
        forcerm=True,
        decode=True,
    ):
        if "error" in event:
            tail = "\n".join(output[-30:])
            raise ImageError(f"image {plan.name}: {event['error'].strip()}\n{tail}")
        for line in str(event.get("stream", "")).splitlines():
            if line.strip():
                output.append(line)
            if line.startswith("Step "):
                progress(line)
        built = event.get("aux", {}).get("ID", built)
    if plan.playbook:
        try:
            playbooks.make_image(plan.playbook, built, plan.tag, client, progress)
        except playbooks.PlaybookError as error:
            raise ImageError(f"image {plan.name}: {error}") from error


def _make_base(plan: Plan, progress: Progress) -> bases.BaseImage:
    assert plan.recipe  # noqa: S101 - asked for bases only
    return bases.make_base(plan.recipe, plan.arch, cache_home() / "bases", progress)


def context_archive(plan: Plan, archives: Iterable[tuple[Plan, bases.BaseImage]] = ()) -> bytes:
    """The build context as a tar, the same bytes for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for each in plan.files:
            _add(archive, each.path, each.mode, each.source.read_bytes())
        for carried, base in archives:
            name = f"bases/{carried.name}-{carried.arch}"
            sidecar = json.dumps({"image_id": base.image_id, "hash": base.hash})
            _add(archive, f"{name}.tar.zst", 0o644, base.path.read_bytes())
            _add(archive, f"{name}.json", 0o644, sidecar.encode())
        _add(archive, "Dockerfile", 0o644, plan.dockerfile.encode())
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, mode: int, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def main(arguments: list[str]) -> int:
    """`[--arch ARCH] [NAME…]`: build, and print the tags on stdout. Without names: all recipes, and
    what older recipes left in the engine is removed."""
    arch = None
    if arguments[:1] == ["--arch"]:
        arch, arguments = Architecture(arguments[1]), arguments[2:]
    names = recipe_names(repository_root())
    try:
        for name in arguments or names:
            print(build_image(name, line_printer(), arch=arch).tag, flush=True)
        if not arguments:
            with closing(docker.from_env(timeout=BUILD_TIMEOUT_SECONDS)) as client:
                for tag in remove_superseded(client, names):
                    print(f"removed {tag}: newer ones are there", file=sys.stderr)
    except (ImageError, bases.BaseError, DockerException) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Base images, made from the signed Debian archive and from nothing else.

`mmdebstrap` installs a minimal Debian into a tar file; foreign architectures run under qemu-user
through binfmt_misc. The tar becomes an image archive as `docker save` writes it (the format is
https://github.com/moby/moby/blob/master/image/spec/v1.2.md), so that the image has the right
architecture on every engine: `docker import --platform` of Docker 20.10 records the host's.

Used on the operator's machine and inside the builder's container; standard library only.
"""

import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gantry.builder import bootstrap, mirror
from gantry.contracts.device_types import Architecture

Progress = Callable[[str], None]

# The first that is set names the bundle of a machine whose network re-signs TLS.
BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_CERT")
# What programs in an image read to find their bundle: Python, requests, pip, Node, git.
TRUST_VARIABLES = (*BUNDLE_VARIABLES, "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
BUNDLE_IN_IMAGE = "etc/ssl/certs/ca-certificates.crt"

# A change of how bases are made makes all of them anew.
FORMAT = "1"
CREATED = "2026-01-01T00:00:00Z"

# Daemons are not started by `apt-get install` in a build, and archives are not kept in a layer.
OVERLAY: Mapping[str, tuple[int, str]] = {
    "usr/sbin/policy-rc.d": (0o755, "#!/bin/sh\nexit 101\n"),
    "etc/apt/apt.conf.d/99gantry": (
        0o644,
        'APT::Install-Recommends "false";\n'
        'Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n'
        'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\n',
    ),
}


class BaseError(Exception):
    """A base recipe is wrong or mmdebstrap failed; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class BaseRecipe:
    """What a base is made of: the `[base]` table of images/<name>/recipe.toml.

    `revision` has no other use than to make the base anew, with the archive's newer packages.
    """

    name: str
    suite: str
    architectures: tuple[Architecture, ...]
    include: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""


@dataclass(frozen=True, slots=True)
class BaseImage:
    """A base in the cache: a zstd-compressed image archive, untagged.

    `zstdcat path | docker load` prints `image_id`, which is then tagged as one likes.
    """

    path: Path
    image_id: str
    hash: str


def read_recipe(path: Path) -> BaseRecipe:
    """Read `[base]` of a recipe.toml; the recipe's name is its folder's.

    Raises:
        BaseError: the file has no such table, an unknown key, or an unknown architecture.
    """
    table = tomllib.loads(path.read_text()).get("base")
    if not isinstance(table, dict):
        raise BaseError(f"{path} has no [base] table: it is not the recipe of a base image")
    unknown = set(table) - {"suite", "arch", "include", "env", "revision"}
    if unknown:
        raise BaseError(f"{path}: unknown keys in [base]: {', '.join(sorted(unknown))}")
    try:
        return BaseRecipe(
            name=path.parent.name,
            suite=str(table["suite"]),
            architectures=tuple(Architecture(each) for each in table["arch"]),
            include=tuple(table.get("include", ())),
            env=dict(table.get("env", {})),
            revision=str(table.get("revision", "")),
        )
    except KeyError as error:
        raise BaseError(f"{path}: [base] lacks the key {error}") from error
    except ValueError as error:
        raise BaseError(f"{path}: {error}: use {', '.join(Architecture)}") from error


def host_bundle(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The CA bundle that the host's environment names, or None.

    Raises:
        BaseError: the variable names no file.
    """
    for variable in BUNDLE_VARIABLES:
        if value := environ.get(variable):
            if not Path(value).is_file():
                raise BaseError(f"{variable}={value} names no file: correct it or unset it")
            return Path(value)
    return None


def base_hash(recipe: BaseRecipe, arch: Architecture, bundle: Path | None) -> str:
    """sha256 in hex over all that decides what the base holds, but for the archive's state."""
    digest = hashlib.sha256()
    parts = {
        "format": FORMAT,
        "suite": recipe.suite,
        "arch": arch.value,
        "include": sorted(recipe.include),
        "env": dict(recipe.env),
        "revision": recipe.revision,
        "overlay": {name: list(entry) for name, entry in OVERLAY.items()},
        "bundle": hashlib.sha256(bundle.read_bytes()).hexdigest() if bundle else "",
    }
    digest.update(json.dumps(parts, sort_keys=True).encode())
    return digest.hexdigest()


def make_base(
    recipe: BaseRecipe, arch: Architecture, cache_dir: Path, progress: Progress
) -> BaseImage:
    """Make a base, or find it in the cache. Two at once wait for each other.

    One that was made with an older state of the security updates (`mirror`) is made anew when the
    mirror has the newest. Takes about 20 s for the machine's own architecture, minutes under qemu.
    Root is needed, or user namespaces with subordinate ids (package `uidmap`).

    Raises:
        BaseError: the recipe lacks the architecture, or mmdebstrap failed; holds its last lines.
    """
    if arch not in recipe.architectures:
        known = ", ".join(recipe.architectures)
        raise BaseError(f"base {recipe.name} is not made for {arch}: its recipe says {known}")
    bundle = host_bundle()
    key = base_hash(recipe, arch, bundle)
    cache_dir.mkdir(parents=True, exist_ok=True)
    path = cache_dir / f"{recipe.name}-{arch}-{key[:12]}.tar.zst"
    sidecar = path.with_suffix(".json")
    with locked(path.with_suffix(".lock")):
        if not (path.is_file() and sidecar.is_file()):
            _make(recipe, arch, bundle, path, progress)
        elif _can_be_fresher(sidecar, recipe, arch):
            _make_fresher(recipe, arch, bundle, path, progress)
        image_id = json.loads(sidecar.read_text())["image_id"]
    return BaseImage(path=path, image_id=image_id, hash=key)


@contextmanager
def archive_stream(base: BaseImage) -> Iterator[IO[bytes]]:
    """The uncompressed image archive, for an engine's `POST /images/load` or `docker load`."""
    with subprocess.Popen(["zstd", "-dcq", str(base.path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - asked for above
        yield process.stdout
    if process.returncode:
        raise BaseError(
            f"{base.path} cannot be read (zstd ended with {process.returncode}): "
            "remove it, and it will be made again"
        )


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes and threads; it ends with its holder."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _make(
    recipe: BaseRecipe, arch: Architecture, bundle: Path | None, path: Path, progress: Progress
) -> None:
    for program in ("mmdebstrap", "zstd"):
        if shutil.which(program) is None:
            raise BaseError(f"{program} is not installed: run `make setup`")
    with tempfile.TemporaryDirectory(prefix=".base-", dir=path.parent) as folder:
        # mmdebstrap's user namespace must reach its target file.
        Path(folder).chmod(0o711)
        layer = Path(folder) / "layer.tar"
        security = mirror.security_of(recipe.suite, arch.debian)
        if security.warning:
            progress(f"warning: {security.warning}")
        command = bootstrap.command(
            recipe.suite, arch.debian, recipe.include, security.source, layer
        )
        try:
            bootstrap.run_patiently(command, progress)
        except bootstrap.BootstrapError as error:
            raise BaseError(str(error)) from error
        progress("packing the image")
        archive = Path(folder) / "image.tar.zst"
        image_id = _write_archive(archive, layer, recipe, arch, bundle, security)
        # The image first: a sidecar without its image would be an image that cannot be loaded.
        archive.replace(path)
        sidecar = Path(folder) / "image.json"
        sidecar.write_text(json.dumps({"image_id": image_id, "security": security.state}))
        sidecar.replace(path.with_suffix(".json"))


def _can_be_fresher(sidecar: Path, recipe: BaseRecipe, arch: Architecture) -> bool:
    if not json.loads(sidecar.read_text()).get("security"):
        return False
    return mirror.security_of(recipe.suite, arch.debian).current


def _make_fresher(
    recipe: BaseRecipe, arch: Architecture, bundle: Path | None, path: Path, progress: Progress
) -> None:
    """What is there serves on if this fails."""
    progress(f"base {recipe.name} for {arch} has an older state of the security updates: anew")
    try:
        _make(recipe, arch, bundle, path, progress)
    except BaseError as error:
        progress(f"warning: the older base stays: {error}")


def _write_archive(
    target: Path,
    layer: Path,
    recipe: BaseRecipe,
    arch: Architecture,
    bundle: Path | None,
    security: mirror.Security,
) -> str:
    """Write the image archive; return the image's id (the digest of its configuration)."""
    own = _read_member(layer, BUNDLE_IN_IMAGE)
    extra = extra_certificates(own, bundle)
    overlay = target.with_name("overlay.tar")
    overlay.write_bytes(overlay_layer(extra, own, security.preferences))
    layers = [_digest(layer), _digest(overlay)]
    config = json.dumps(
        image_config(recipe, arch, layers, trust=bool(extra), security=security.state),
        sort_keys=True,
    ).encode()
    name = hashlib.sha256(config).hexdigest()
    manifest = [{"Config": f"{name}.json", "RepoTags": None, "Layers": ["0.tar", "1.tar"]}]
    with (
        target.open("wb") as out,
        subprocess.Popen(
            ["zstd", "-q", "-3", "-T0"], stdin=subprocess.PIPE, stdout=out
        ) as compressor,
    ):
        assert compressor.stdin is not None  # noqa: S101 - asked for above
        with tarfile.open(fileobj=compressor.stdin, mode="w|") as archive:
            _add_bytes(archive, f"{name}.json", config)
            archive.add(layer, arcname="0.tar")
            archive.add(overlay, arcname="1.tar")
            _add_bytes(archive, "manifest.json", json.dumps(manifest).encode())
        compressor.stdin.close()
    if compressor.returncode:
        raise BaseError(f"zstd ended with {compressor.returncode}: is the disk full?")
    return f"sha256:{name}"


def image_config(
    recipe: BaseRecipe, arch: Architecture, layers: list[str], *, trust: bool, security: str = ""
) -> dict[str, Any]:
    """The image's configuration; `layers` are the digests of its uncompressed layers.

    `security` is the day of an older state of the security updates, or empty.
    """
    labels = {"gantry.base": recipe.name, "gantry.arch": arch.value}
    if security:
        labels["gantry.security"] = security
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **recipe.env}
    if trust:
        env |= dict.fromkeys(TRUST_VARIABLES, f"/{BUNDLE_IN_IMAGE}")
    _, architecture, *variant = arch.platform.split("/")
    return {
        "architecture": architecture,
        **({"variant": variant[0]} if variant else {}),
        "os": "linux",
        "created": CREATED,
        "config": {
            "Env": [f"{name}={value}" for name, value in env.items()],
            "Cmd": ["/bin/bash"],
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": layers},
        "history": [
            {"created": CREATED, "created_by": f"mmdebstrap {recipe.suite} {arch.debian}"},
            {"created": CREATED, "created_by": "gantry: build settings and trusted certificates"},
        ],
    }


def extra_certificates(own: bytes, bundle: Path | None) -> list[str]:
    """The PEM certificates of the host's bundle that the base does not trust by itself."""
    if bundle is None:
        return []
    known = set(_certificates(own))
    return [each for each in _certificates(bundle.read_bytes()) if each not in known]


def overlay_layer(extra: list[str], own: bytes, preferences: str = "") -> bytes:
    """The second layer, as a tar: build settings, apt's preferences, the host's certificates.

    They are in /usr/local/share/ca-certificates too, so that `update-ca-certificates` in a later
    layer keeps them.
    """
    files = {name: (mode, text.encode()) for name, (mode, text) in OVERLAY.items()}
    if preferences:
        files["etc/apt/preferences.d/99gantry-security"] = (0o644, preferences.encode())
    for number, certificate in enumerate(extra):
        path = f"usr/local/share/ca-certificates/host-{number}.crt"
        files[path] = (0o644, certificate.encode())
    if extra:
        files[BUNDLE_IN_IMAGE] = (0o644, own.rstrip(b"\n") + b"\n" + "".join(extra).encode())
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (mode, content) in sorted(files.items()):
            _add_bytes(archive, name, content, mode)
    return buffer.getvalue()


def _certificates(bundle: bytes) -> list[str]:
    pattern = r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----"
    return [f"{each}\n" for each in re.findall(pattern, bundle.decode("utf-8", "replace"), re.S)]


def _read_member(layer: Path, name: str) -> bytes:
    with tarfile.open(layer) as archive:
        for member in archive:
            if member.name.removeprefix("./") == name:
                content = archive.extractfile(member)
                return content.read() if content else b""
    return b""


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = len(content), mode, int(bootstrap.SOURCE_DATE_EPOCH)
    archive.addfile(member, io.BytesIO(content))


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"

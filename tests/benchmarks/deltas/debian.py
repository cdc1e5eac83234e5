"""A minimal Debian of arm64 as a tree: apt chooses and fetches, and nothing is run.

Packages are unpacked as they are, and dpkg's own records of them are written; scripts of packages
are not run, which spares the emulation of another processor.
"""

import io
import os
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gantry.builder.mirror import MIRROR, security_of
from tests.benchmarks.deltas.tree import Entry, Tree, tree_of

SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# As the images of this project leave out.
LEFT_OUT = ("usr/share/man/", "usr/share/locale/", "usr/share/doc/")
MERGED = ("bin", "sbin", "lib")
STATUS = "var/lib/dpkg/status"


@dataclass(frozen=True, slots=True)
class Debian:
    """A system: `packages` as apt takes them, with the archive's security updates or without."""

    packages: tuple[str, ...]
    security: bool
    at: int  # when it was made, seconds of Unix


def fetch(system: Debian, folder: Path) -> list[Path]:
    """The packages' files, in the order of their names; `folder` is apt's own root.

    Raises:
        subprocess.CalledProcessError: apt cannot, and has said why on stderr.
    """
    _sources(system, folder)
    _apt(folder, "update", "-qq")
    _apt(
        folder,
        *("install", "-qq", "-y", "--download-only", "--no-install-recommends"),
        *system.packages,
    )
    return sorted((folder / "var/cache/apt/archives").glob("*.deb"))


def _sources(system: Debian, folder: Path) -> None:
    folders = ("etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial")
    for name in (*folders, "var/cache/apt/archives/partial", "var/lib/dpkg"):
        (folder / name).mkdir(parents=True)
    (folder / STATUS).touch()
    (folder / "etc/apt/trusted.gpg.d/debian.gpg").symlink_to(KEYRING)
    lines = [f"deb {MIRROR} {SUITE} main"]
    if system.security:
        security = security_of(SUITE, "arm64")
        lines.append(security.source)
        (folder / "etc/apt/preferences.d/security").write_text(security.preferences)
    (folder / "etc/apt/sources.list").write_text("\n".join(lines) + "\n")


def _apt(folder: Path, *words: str) -> None:
    settings = {
        "Dir": folder,
        "Dir::State::status": folder / STATUS,
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
        "Acquire::Retries": 3,
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    environ = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(
        ["apt-get", *options, *words], check=True, env=environ, stdout=subprocess.DEVNULL
    )


def unpack(debs: Sequence[Path], at: int) -> Tree:
    """The tree of packages, with dpkg's records of them, written at `at`."""
    entries = [Entry(name, tarfile.SYMTYPE, 0o777, at, f"usr/{name}") for name in MERGED]
    status = []
    for deb in debs:
        files = list(_files(deb))
        entries += files
        control, records = _records(deb, files, at)
        entries += records
        status.append(control)
    text = "\n".join(status).encode()
    entries.append(Entry(STATUS, mtime=at, read=lambda: text))
    return tree_of(entries)


def _files(deb: Path) -> Iterator[Entry]:
    for member, content in _members(deb, "--fsys-tarfile"):
        name = _merged(member.name.removeprefix("./").rstrip("/"))
        if not name or name in MERGED or _left_out(name):
            continue
        link = member.linkname
        if member.islnk():
            link = _merged(link.removeprefix("./"))
        yield Entry(
            name,
            *(tarfile.REGTYPE if member.isreg() else member.type, member.mode, int(member.mtime)),
            link=link,
            read=lambda content=content: content,
            uid=member.uid,
            gid=member.gid,
        )


def _members(deb: Path, part: str) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    done = subprocess.run(["dpkg-deb", part, str(deb)], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            yield member, file.read() if file else b""


def _merged(name: str) -> str:
    """Where a name is on a system whose /bin, /sbin and /lib are in /usr."""
    first, slash, _ = name.partition("/")
    return f"usr/{name}" if slash and first in MERGED else name


def _left_out(name: str) -> bool:
    return name.startswith(LEFT_OUT) and not name.endswith("/copyright")


def _records(deb: Path, files: Sequence[Entry], at: int) -> tuple[str, list[Entry]]:
    """The paragraph of the status file, and what dpkg keeps in its info folder."""
    parts = {
        member.name.removeprefix("./"): content
        for member, content in _members(deb, "--ctrl-tarfile")
        if member.isreg()
    }
    control = parts.pop("control").decode()
    package = deb.name.partition("_")[0]
    parts["list"] = "".join(f"/{each.name}\n" for each in files).encode()
    info = f"var/lib/dpkg/info/{package}"
    scripts = ("preinst", "postinst", "prerm", "postrm", "config")
    records = [
        Entry(f"{info}.{name}", mode=0o755 if name in scripts else 0o644, mtime=at)
        for name in parts
    ]
    contents = list(parts.values())
    entries = [
        replace(entry, read=lambda content=content: content)
        for entry, content in zip(records, contents, strict=True)
    ]
    first, _, rest = control.partition("\n")
    return f"{first}\nStatus: install ok installed\n{rest}", entries

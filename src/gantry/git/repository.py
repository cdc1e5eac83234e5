"""The doorway to git: the bare repositories, one an application, and what is asked of them.

A repository is named after the application's uuid, so that neither a renamed application nor a
new one of an old name meets the wrong history.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from gantry.git.refs import BUILT_BRANCHES

MIN_FREE_BYTES = 256 * 1024**2
_UUID = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{30})?")
_CHUNK = 256 * 1024

# As many files as the builder takes, and room for their names.
MAX_ENTRIES = 200_000
MAX_LISTING_BYTES = 64 * 1024**2

# A build gets the tree as it is committed: what a project leaves out of its release archives
# (export-ignore) is still part of its build.
_ATTRIBUTES = "* -export-ignore -export-subst\n"


class RepositoryError(Exception):
    """Git or the disk failed. The message is a sentence for the pusher."""


def ensure_repository(folder: Path, uuid: str) -> Path:
    """The bare repository of the application `uuid` in `folder`, made if it is not there.

    It appears whole or not at all, also when two first pushes meet.

    Raises:
        RepositoryError: it cannot be made, or `uuid` is not one.
    """
    if not _UUID.fullmatch(uuid):
        raise RepositoryError(f"the api gave {uuid!r} as the application's uuid")
    path = folder / f"{uuid}.git"
    if path.is_dir():
        return path
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as scratch:
            made = Path(scratch) / "repository"
            _git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(made))
            (made / "info").mkdir(exist_ok=True)
            (made / "info" / "attributes").write_text(_ATTRIBUTES)
            try:
                made.rename(path)
            except OSError:
                if not path.is_dir():
                    raise
    except (OSError, subprocess.CalledProcessError) as error:
        raise RepositoryError(f"the repository cannot be made: {error}") from error
    return path


def check_space(folder: Path) -> int:
    """How many bytes a push may bring before the disk, which others share, is too full.

    Raises:
        RepositoryError: it is too full already.
    """
    free = shutil.disk_usage(folder).free
    if free <= MIN_FREE_BYTES:
        raise RepositoryError(
            f"the git server's disk is full ({free // 1024**2} MiB free): tell its operator."
        )
    return free - MIN_FREE_BYTES


def receive_pack(path: Path, max_bytes: int) -> list[str]:
    """The command that takes a push of at most `max_bytes`."""
    return ["git", "-c", f"receive.maxInputSize={max_bytes}", "receive-pack", str(path)]


def upload_pack(path: Path) -> list[str]:
    """The command that serves a pull."""
    return ["git", "upload-pack", "--strict", str(path)]


def environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """Git's whole environment: of what sshd hands on, only the protocol's version is kept."""
    kept = {"PATH": "/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8"}
    if "GIT_PROTOCOL" in inherited:
        kept["GIT_PROTOCOL"] = inherited["GIT_PROTOCOL"][:200]
    return kept


def settle_head(path: Path) -> None:
    """Points HEAD at a branch that exists, so that a clone checks something out."""
    existing = built_branches(path)
    if not existing:
        return
    head = _git("symbolic-ref", "HEAD", cwd=path).strip()
    if head not in existing:
        _git("symbolic-ref", "HEAD", existing[0], cwd=path)


def built_branches(path: Path) -> list[str]:
    """Which of `BUILT_BRANCHES` exist, in that order."""
    found = _git("for-each-ref", "--format=%(refname)", *BUILT_BRANCHES, cwd=path).split()
    return [ref for ref in BUILT_BRANCHES if ref in found]


def resolve(path: Path, ref: str) -> str | None:
    """The object that `ref` names, or None."""
    try:
        return _git("rev-parse", "--verify", "--quiet", ref, cwd=path).strip()
    except subprocess.CalledProcessError:
        return None


def submodules(
    path: Path, commit: str, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_LISTING_BYTES
) -> list[str]:
    """The paths of the tree's submodules: a push brings nothing of what is in them.

    A few small trees that name each other again and again are thousands of millions of files. So
    the listing is read as it comes and ended at its limits; whoever unpacks the tree asks here
    first, for `git archive` holds all its names in memory.

    Raises:
        RepositoryError: the tree has too many files, or names that are too long together.
    """
    command = ["git", "ls-tree", "-r", "-z", commit]
    found: list[str] = []
    entries = size = 0
    rest = b""
    with subprocess.Popen(command, cwd=path, env=_own(), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101
        try:
            while chunk := process.stdout.read(_CHUNK):
                size += len(chunk)
                *lines, rest = (rest + chunk).split(b"\0")
                entries += len(lines)
                if entries > max_entries or size > max_bytes:
                    raise RepositoryError(
                        f"the tree of {commit[:12]} has more than {max_entries} files, or names of "
                        f"more than {max_bytes // 1024**2} MiB together: leave some out."
                    )
                found += [
                    os.fsdecode(line.partition(b"\t")[2])
                    for line in lines
                    if line.startswith(b"160000 ")
                ]
        except BaseException:
            process.kill()
            raise
        if process.wait():
            raise RepositoryError(f"git ls-tree of {commit} failed ({process.returncode})")
    return found


def archive(path: Path, commit: str) -> Iterator[bytes]:
    """The commit's tree as a tar stream, in chunks.

    Inside pre-receive this sees the pushed objects: git's quarantine is in the environment.

    Raises:
        RepositoryError: git failed; the stream so far is not whole.
    """
    command = ["git", "archive", "--format=tar", commit]
    with subprocess.Popen(command, cwd=path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101
        try:
            while chunk := process.stdout.read(_CHUNK):
                yield chunk
        finally:
            process.stdout.close()
        if process.wait():
            raise RepositoryError(f"git archive of {commit} failed ({process.returncode})")


def sweep(folder: Path) -> int:
    """Removes what killed pushes left behind and returns how many there were.

    Only for the start of the service, while no push can run.
    """
    left = sum(_sweep_quarantines(path) for path in folder.glob("*.git"))
    for unfinished in folder.glob(".new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    for lock in folder.glob("*.git/**/*.lock"):
        lock.unlink(missing_ok=True)
    return left


@contextlib.contextmanager
def receiving(path: Path) -> Iterator[None]:
    """Around each push to a repository: whoever leaves last clears away what killed ones left.

    Git, ended by a signal, leaves the quarantine of the objects that it was receiving.
    """
    with open(path / "gantry-receiving", "w") as mark:
        fcntl.flock(mark, fcntl.LOCK_SH)
        yield
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        _sweep_quarantines(path)


def _sweep_quarantines(path: Path) -> int:
    found = list((path / "objects").glob("tmp_objdir-*"))
    for each in found:
        shutil.rmtree(each, ignore_errors=True)
    return len(found)


def _git(*arguments: str, cwd: Path | None = None) -> str:
    return subprocess.run(
        ["git", *arguments],
        cwd=cwd,
        env=_own(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout.decode(errors="surrogateescape")


def _own() -> dict[str, str]:
    """The environment of our own calls: inside a hook, git's quarantine is in it."""
    inside = {name: value for name, value in os.environ.items() if name.startswith("GIT_")}
    return {**environment({}), **inside}

"""Repositories, with real git."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from gantry.git import repository
from gantry.git.repository import RepositoryError, ensure_repository

UUID = "ab" * 16


def git(path: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=x", "-c", "user.email=x"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=path, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def commit(path: Path, *entries: str) -> str:
    """A commit on main whose tree has these `ls-tree` lines."""
    listing = "".join(f"{entry}\n" for entry in entries)
    command = ["git", "mktree", "--missing"]
    done = subprocess.run(command, cwd=path, input=listing.encode(), check=True, stdout=-1)
    tree = done.stdout.decode().strip()
    made = git(path, "commit-tree", tree, "-m", "x")
    git(path, "update-ref", "refs/heads/main", made)
    return made


def test_it_is_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "repositories"
    path = ensure_repository(folder, UUID)
    assert path == folder / f"{UUID}.git"
    assert git(path, "rev-parse", "--is-bare-repository") == "true"
    (path / "mark").touch()
    assert ensure_repository(folder, UUID) == path
    assert (path / "mark").exists()
    assert [each.name for each in folder.iterdir()] == [path.name]


def test_two_first_pushes_meet(tmp_path: Path) -> None:
    threads = [threading.Thread(target=ensure_repository, args=(tmp_path, UUID)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.name for each in tmp_path.iterdir()] == [f"{UUID}.git"]


@pytest.mark.parametrize("uuid", ["", "../x", "AB" * 16, "ab" * 15, "ab" * 16 + "\n"])
def test_only_a_uuid_names_one(tmp_path: Path, uuid: str) -> None:
    with pytest.raises(RepositoryError, match="as the application's uuid"):
        ensure_repository(tmp_path, uuid)
    assert list(tmp_path.iterdir()) == []


def test_the_archive_is_the_tree(tmp_path: Path) -> None:
    path = ensure_repository(tmp_path, UUID)
    (tmp_path / "file").write_bytes(os.urandom(600_000))
    blob = git(path, "hash-object", "-w", str(tmp_path / "file"))
    made = commit(path, f"100755 blob {blob}\tfile")
    chunks = list(repository.archive(path, made))
    assert len(chunks) > 1
    listing = subprocess.run(
        ["tar", "-tv"], input=b"".join(chunks), capture_output=True, check=True
    ).stdout.decode()
    assert listing.startswith("-rwx")
    assert "600000" in listing


def test_an_archive_that_fails_says_so(tmp_path: Path) -> None:
    path = ensure_repository(tmp_path, UUID)
    with pytest.raises(RepositoryError, match=r"git archive of 1{40} failed"):
        list(repository.archive(path, "1" * 40))


def test_an_archive_can_be_left(tmp_path: Path) -> None:
    path = ensure_repository(tmp_path, UUID)
    (tmp_path / "file").write_bytes(os.urandom(3_000_000))
    blob = git(path, "hash-object", "-w", str(tmp_path / "file"))
    stream = repository.archive(path, commit(path, f"100644 blob {blob}\tfile"))
    assert next(stream)
    del stream


def test_submodules_are_found(tmp_path: Path) -> None:
    path = ensure_repository(tmp_path, UUID)
    made = commit(path, f"160000 commit {'1' * 40}\tlib a")
    assert repository.submodules(path, made) == ["lib a"]


def test_a_tree_that_multiplies_is_refused_and_not_held(tmp_path: Path) -> None:
    """Twelve trees of ten entries each: a million million files, in two kilobytes of a pack."""
    path = ensure_repository(tmp_path, UUID)
    blob = git(path, "hash-object", "-w", "--stdin")
    made, tree = "", ""
    for _ in range(12):
        kind = f"040000 tree {tree}" if tree else f"100644 blob {blob}"
        made = commit(path, *(f"{kind}\t{number}" for number in range(10)))
        tree = git(path, "rev-parse", f"{made}^{{tree}}")
    with pytest.raises(RepositoryError, match="more than 200000 files"):
        repository.submodules(path, made)
    with pytest.raises(RepositoryError, match="names of more than 0 MiB"):
        repository.submodules(path, made, max_entries=1 << 60, max_bytes=1 << 19)


def test_a_listing_that_fails_says_so(tmp_path: Path) -> None:
    path = ensure_repository(tmp_path, UUID)
    with pytest.raises(RepositoryError, match=r"git ls-tree of 1{40} failed"):
        repository.submodules(path, "1" * 40)


def test_head_follows_what_exists(tmp_path: Path) -> None:
    path = ensure_repository(tmp_path, UUID)
    repository.settle_head(path)
    assert git(path, "symbolic-ref", "HEAD") == "refs/heads/main"
    made = commit(path)
    git(path, "update-ref", "refs/heads/master", made)
    git(path, "update-ref", "-d", "refs/heads/main")
    repository.settle_head(path)
    assert git(path, "symbolic-ref", "HEAD") == "refs/heads/master"
    assert repository.built_branches(path) == ["refs/heads/master"]
    assert repository.resolve(path, "refs/heads/master") == made
    assert repository.resolve(path, "refs/heads/main") is None


def test_quarantines_are_cleared_by_the_last_to_leave(tmp_path: Path) -> None:
    path = ensure_repository(tmp_path, UUID)
    left = path / "objects" / "tmp_objdir-incoming-abc"
    left.mkdir()
    with repository.receiving(path):
        with repository.receiving(path):
            pass
        assert left.exists()
    assert not left.exists()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path).free
    # What is left for others is not the push's: the disk has the git server's neighbours on it.
    assert repository.check_space(tmp_path) < free - repository.MIN_FREE_BYTES // 2
    monkeypatch.setattr(repository, "MIN_FREE_BYTES", 1 << 60)
    with pytest.raises(RepositoryError, match="disk is full"):
        repository.check_space(tmp_path)

"""How bases are made: a mirror between two of its states is waited for, then said."""

import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest

from gantry.builder import bases, bootstrap, mirror
from gantry.builder.bootstrap import BootstrapError
from gantry.contracts.device_types import Architecture

APT = "E: Failed to fetch Packages.xz  File has unexpected size (1 != 2). Mirror sync in progress?"


def program(folder: Path, good_from: int, says: str = APT) -> list[str]:
    """A command that fails with apt's words until it is called for the `good_from`th time."""
    path = folder / "program"
    path.write_text(
        f"#!/bin/sh\necho x >> {folder}/calls\n"
        f"[ $(wc -l < {folder}/calls) -ge {good_from} ] || {{ echo '{says}'; exit 25; }}\n"
    )
    path.chmod(0o755)
    return [str(path)]


def calls(folder: Path) -> int:
    return len((folder / "calls").read_text().splitlines())


def test_a_mirror_in_between_is_asked_again(tmp_path: Path) -> None:
    said: list[str] = []
    bootstrap.run_patiently(program(tmp_path, 3), said.append, 0.01)
    assert calls(tmp_path) == 3
    assert "the archive's mirror is being brought up to date: again in 0 s" in said


def test_a_mirror_that_stays_so_is_named(tmp_path: Path) -> None:
    with pytest.raises(BootstrapError, match="try again in an hour") as caught:
        bootstrap.run_patiently(program(tmp_path, 9), print, 0.01)
    assert calls(tmp_path) == 3
    assert "File has unexpected size" in str(caught.value)


def test_other_failures_are_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(BootstrapError, match="no space left"):
        bootstrap.run_patiently(program(tmp_path, 9, "no space left"), print, 0.01)
    assert calls(tmp_path) == 1


def made_with(monkeypatch: pytest.MonkeyPatch, security: mirror.Security, mark: bytes) -> list[str]:
    """Bases are made at once, of nothing but `mark`; gives the commands as they come."""
    commands: list[str] = []

    def install(words: list[str], progress: object) -> None:
        commands.append(words[-1])
        if not mark:
            raise BootstrapError("no space left")
        target = next(Path(each) for each in words if each.endswith("layer.tar"))
        with tarfile.open(target, "w") as layer:
            layer.addfile(tarfile.TarInfo("mark"), None)
            info = tarfile.TarInfo("content")
            info.size = len(mark)
            layer.addfile(info, io.BytesIO(mark))

    monkeypatch.setattr(bootstrap, "run_patiently", install)
    monkeypatch.setattr(mirror, "security_of", lambda *_: security)
    return commands


RECIPE = bases.BaseRecipe("raspios", "bookworm", tuple(Architecture), ())
NEWEST = mirror.Security("deb http://new", current=True)
OLDER = mirror.Security("deb http://older", "2026-10-29", False, "Package: *\n", "older ones")


def test_an_older_state_is_said_labelled_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made of an older state of the security updates, until the mirror is whole."""
    said: list[str] = []

    def make() -> str:
        return bases.make_base(RECIPE, Architecture.ARMV7HF, tmp_path, said.append).image_id

    commands = made_with(monkeypatch, OLDER, b"old")
    first = make()
    assert commands == ["deb http://older"]
    assert "warning: older ones" in said
    assert (make(), len(commands)) == (first, 1)
    [path] = tmp_path.glob("*.tar.zst")
    manifest = subprocess.run(["zstdcat", path], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(manifest)) as archive:
        [name] = [each for each in archive.getnames() if len(each) == len("0" * 64 + ".json")]
        config = json.load(archive.extractfile(name))  # type: ignore[arg-type]
        with tarfile.open(fileobj=archive.extractfile("1.tar")) as layer:
            names = layer.getnames()
    assert config["config"]["Labels"]["gantry.security"] == "2026-10-29"
    assert "etc/apt/preferences.d/99gantry-security" in names

    made_with(monkeypatch, NEWEST, b"")
    assert make() == first
    assert any("the older base stays: no space left" in each for each in said)

    made_with(monkeypatch, NEWEST, b"new")
    second = make()
    assert second != first
    commands = made_with(monkeypatch, NEWEST, b"newer")
    assert (make(), commands) == (second, [])


def test_a_borrowed_group_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's `daemon` has user and group number 1."""
    words = ["mmdebstrap", "--aptopt=Acquire::Retries 3"]
    monkeypatch.setattr("os.geteuid", lambda: 1)
    assert bootstrap.in_own_group(words, gid=1) == words
    borrowed = bootstrap.in_own_group(words, gid=999)
    assert borrowed == ["sg", "daemon", "-c", "mmdebstrap '--aptopt=Acquire::Retries 3'"]
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert bootstrap.in_own_group(words, gid=999) == words

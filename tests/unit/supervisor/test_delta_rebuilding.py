"""Layers from deltas by a child process, and what is made of its end."""

import asyncio
import errno
import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gantry.deltas.apply import main
from gantry.deltas.arguments import TROUBLE
from gantry.supervisor.deltas import folder
from gantry.supervisor.deltas.rebuilding import ChildError, Rebuilder, RebuildError
from tests.layers import Made, Member, dice, digest, made, tar_of

# More than pipes hold: the child waits for who reads from it.
NOISE = dice(8).randbytes(2_000_000)


@pytest.fixture
def delta(tmp_path: Path) -> Made:
    old, new = (tar_of([Member("app", content=NOISE + more)]) for more in (b"", b"and more"))
    return made(tmp_path / "layers", [old], [new])


async def rebuilt(delta: Made, after_first: signal.Signals | None = None) -> bytes:
    """The layer; with a signal for the child when its first piece is here."""
    rebuilder = Rebuilder(delta.open(), delta.folders, asyncio.Semaphore(1))
    content = b""
    try:
        async for piece in rebuilder.tar(delta.targets[0].diff_id):
            content += piece
            if after_first is not None:
                os.kill(child(delta), after_first)
                after_first = None
    finally:
        rebuilder.close()
    return content


def child(delta: Made) -> int:
    """The process that rebuilds."""
    words = ["pgrep", "-f", f"gantry.deltas.apply {delta.delta}"]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


@contextmanager
def no_more_files() -> Iterator[None]:
    """A process that has as many files open as it may have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_layer_is_rebuilt(delta: Made) -> None:
    assert asyncio.run(rebuilt(delta)) == delta.targets[0].path.read_bytes()


def test_a_child_that_is_killed_says_nothing_of_the_delta(delta: Made) -> None:
    with pytest.raises(ChildError, match="its process was ended by signal 9"):
        asyncio.run(rebuilt(delta, signal.SIGKILL))


def test_a_layer_that_nobody_reads_to_its_end_keeps_no_other_waiting(delta: Made) -> None:
    async def scenario() -> None:
        turn = asyncio.Semaphore(1)
        rebuilder = Rebuilder(delta.open(), delta.folders, turn)
        pieces = rebuilder.tar(delta.targets[0].diff_id)
        await anext(pieces)
        # The child writes on, until no more is read ahead of who reads.
        await asyncio.sleep(1)
        async with asyncio.timeout(20):
            await pieces.aclose()
        assert not turn.locked()

    asyncio.run(scenario())


def test_nor_does_one_that_cannot_be_begun(delta: Made) -> None:
    async def scenario() -> None:
        rebuilder = Rebuilder(delta.open(), delta.folders, asyncio.Semaphore(1))
        with no_more_files(), pytest.raises(ChildError, match="Too many open files"):
            await anext(rebuilder.tar(delta.targets[0].diff_id))

    asyncio.run(scenario())


def test_what_the_child_says_is_a_verdict(delta: Made) -> None:
    [source] = delta.folders.values()
    (source / "app").write_bytes(bytes(len(NOISE)))
    with pytest.raises(RebuildError, match="a source file is not what it was"):
        asyncio.run(rebuilt(delta))


def test_a_machine_that_fails_the_child_is_no_verdict(
    delta: Made, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    [(name, source)] = delta.folders.items()
    words = [str(delta.delta), delta.targets[0].diff_id, "--source", f"{name}={source}"]
    with open("/dev/full", "wb") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert main(words) == TROUBLE
    assert "No space left on device" in capfd.readouterr().err
    monkeypatch.undo()
    assert main(["/nowhere", *words[1:]]) == TROUBLE
    read = os.pread

    def broken(descriptor: int, length: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(source)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, length, offset)

    capfd.readouterr()
    monkeypatch.setattr("os.pread", broken)
    assert main(words) == TROUBLE
    assert "app' cannot be read: Input/output error" in capfd.readouterr().err


def test_a_file_is_looked_at_again(tmp_path: Path) -> None:
    file = folder.DeltaFile(tmp_path, folder.key("image"), digest(b"content"), 7)
    file.open()
    file.add(b"content")
    file.finish()
    assert folder.is_sound(file.path)
    file.path.write_bytes(b"comtent")
    assert not folder.is_sound(file.path)
    file.path.unlink()
    assert not folder.is_sound(file.path)

"""The process that makes a delta: its words, its limits, its end."""

import asyncio
import json
import os
import sys
import textwrap
import time
from pathlib import Path

import pytest

from gantry.deltas.server import generator
from gantry.deltas.server.errors import NotTodayError, TemporaryError, WholeError
from gantry.deltas.server.generate_order import Order
from gantry.deltas.server.generator import DiedError, generate

ORDER = Order((("sha256:a", "/a"),), (("sha256:b", "/b"),), "sha256:c", "/out", 10, 1)


def speaks(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """A process of a few lines in the place of the real one."""
    command = (sys.executable, "-c", textwrap.dedent(program))
    monkeypatch.setattr(generator, "COMMAND", command)


def run(seconds: int = 30) -> list[int]:
    told: list[int] = []
    asyncio.run(generate(ORDER, seconds, told.append))
    return told


def test_an_order_goes_and_comes() -> None:
    line = ORDER.encode()
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert Order.decode(line.decode()) == ORDER


def test_progress_and_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    program = """
        print('{"percent": 3}\\n{"percent": 99}\\nnonsense\\n{"size": 5}', flush=True)
        input(); input()
    """
    speaks(monkeypatch, program)
    assert run() == [3, 99]


@pytest.mark.parametrize(
    ("word", "error"),
    [({"whole": "no"}, WholeError), ({"failed": "not now"}, TemporaryError), ({}, DiedError)],
)
def test_how_it_may_end(
    monkeypatch: pytest.MonkeyPatch, word: dict[str, str], error: type[Exception]
) -> None:
    speaks(monkeypatch, f"print('''{json.dumps(word)}''')")
    with pytest.raises(error):
        run()


def test_after_its_time_it_is_ended_with_its_helpers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "pid"
    program = f"""
        import os, time
        helper = os.fork()
        if helper:
            open({str(file)!r}, "w").write(str(helper))
        time.sleep(60)
    """
    speaks(monkeypatch, program)
    with pytest.raises(NotTodayError, match="takes longer than 1 s"):
        run(seconds=1)
    status = Path(f"/proc/{file.read_text()}/stat")
    until = time.monotonic() + 10
    while status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < until
        time.sleep(0.02)


def test_one_that_dies_is_not_waited_for_because_of_its_helpers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They have its output open."""
    program = """
        import os, signal, time
        if os.fork():
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
    """
    speaks(monkeypatch, program)
    with pytest.raises(DiedError, match="-9"):
        run(seconds=30)


def test_the_real_one_says_what_is_wrong(tmp_path: Path) -> None:
    """Missing files, no memory: a sentence each, and no traceback."""

    async def make(order: Order) -> None:
        await generate(order, 60, lambda _: None)

    missing = Order(ORDER.sources, ORDER.targets, "sha256:" + "c" * 64, "/out", 2**30, 1)
    with pytest.raises(TemporaryError, match="No such file or directory"):
        asyncio.run(make(missing))
    tar = tmp_path / "tar"
    tar.write_bytes(os.urandom(1024 * 512))
    digest = "sha256:" + "a" * 64
    little = Order(
        ((digest, str(tar)),), ((digest, str(tar)),), digest, str(tmp_path / "out"), 2**20, 1
    )
    with pytest.raises((WholeError, DiedError)):
        asyncio.run(make(little))


def test_the_real_one_stops_where_it_would_be_too_much(tmp_path: Path) -> None:
    paths = [tmp_path / "old", tmp_path / "new"]
    for path in paths:
        path.write_bytes(os.urandom(3 * 2**20))
    layers = [
        ("sha256:" + letter * 64, str(path)) for letter, path in zip("ab", paths, strict=True)
    ]
    order = Order(
        (layers[0],), (layers[1],), layers[0][0], str(tmp_path / "out"), 2**29, 1, limit=2**20
    )
    with pytest.raises(WholeError, match="may have 1048576"):
        asyncio.run(generate(order, 60, lambda _: None))
    assert not (tmp_path / "out").exists()

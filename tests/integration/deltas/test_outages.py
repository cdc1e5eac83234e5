"""Ends at any moment, parts that are away, full disks, blobs that are not what they should be."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from gantry.contracts.deltas import FIGURES_PATH, DeltaPair, DeltaState, Figures, figures_question
from tests.integration.registry.blobs import digest

from .conftest import Cloud, Start
from .registry import tar, text
from .server import Asker, Server

SIZE = 300_000


def pushed(cloud: Cloud, repository: str, seed: str, size: int = SIZE) -> tuple[str, str]:
    """Two images that differ by a little."""
    same = text(seed, size)
    layers = [tar({"app": same + str(each).encode() * 4000}) for each in range(2)]
    push = cloud.registry.push
    src, dest = (cloud.reference(repository, push(repository, [each])) for each in layers)
    return src, dest


def children(server: Server) -> list[int]:
    """Processes that make deltas for the server. One that is no program of its own yet is none:
    the server waits for that."""
    assert server.process
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(server.process.pid)],
        capture_output=True, text=True,
    )  # fmt: skip
    lines = [each.split() for each in found.stdout.splitlines()]
    return [int(each[0]) for each in lines if "gantry.deltas.server.generate" in each]


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        with contextlib.suppress(FileNotFoundError):
            return status.read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_kill_amid_making(cloud: Cloud, repository: str, server: Server, asker: Asker) -> None:
    """Nothing half made is kept or served; the next run finishes what this one began."""
    src, dest = pushed(cloud, repository, "killed", 1_500_000)
    assert asker.ask([src], dest).status_code == 202
    (child,) = server.wait(lambda: children(server))
    os.kill(child, signal.SIGSTOP)
    work = Path(server.config["data"]) / "work"
    server.stop(signal.SIGKILL)
    os.kill(child, signal.SIGCONT)
    server.wait(lambda: not alive(child))
    assert server.deltas == []
    (work / "left.gantry-delta").write_bytes(b"half")
    server.start()
    assert list(work.glob("left*")) == []
    again = Asker(server.client(cloud.token(repository)))
    asked = figures_question([DeltaPair((src,), dest)])

    def is_ready() -> bool:
        (found,) = Figures.from_json(again.client.post(FIGURES_PATH, json=asked).json()).pairs
        return found.state is DeltaState.READY

    # Nobody asks for it again.
    server.wait(is_ready)
    answer = again.settled([src], dest)
    assert digest(again.fetch(answer).content) == answer.digest
    assert server.made() == 1


def test_an_end_in_good_order_leaves_no_child(
    cloud: Cloud, repository: str, server: Server, asker: Asker
) -> None:
    src, dest = pushed(cloud, repository, "ended", 1_500_000)
    assert asker.ask([src], dest).status_code == 202
    (child,) = server.wait(lambda: children(server))
    server.stop()
    assert server.process
    # uvicorn ends in good order, and then by the signal that it got.
    assert server.process.returncode in (0, -signal.SIGTERM)
    assert not alive(child)
    assert "Traceback" not in server.log


def test_what_is_made_survives_a_restart(
    cloud: Cloud, repository: str, server: Server, asker: Asker
) -> None:
    src, dest = pushed(cloud, repository, "restart")
    answer = asker.settled([src], dest)
    content = asker.fetch(answer).content
    # What was put into the storage, and not into the index, is nobody's.
    orphan = server.deltas[0].with_name(f"{'0' * 64}.gantry-delta")
    orphan.write_bytes(b"half a crash")
    server.stop(signal.SIGKILL)
    server.start()
    again = Asker(server.client(cloud.token(repository)))
    assert again.settled([src], dest) == answer
    assert again.fetch(answer).content == content
    assert server.made() == 0
    server.wait(lambda: not orphan.exists())


def test_a_lost_index_is_begun_anew(
    cloud: Cloud, repository: str, server: Server, asker: Asker
) -> None:
    src, dest = pushed(cloud, repository, "index")
    answer = asker.settled([src], dest)
    server.stop()
    (Path(server.config["data"]) / "pairs.sqlite").write_bytes(b"no database, for sure" * 100)
    server.start()
    server.wait(lambda: server.deltas == [])
    again = Asker(server.client(cloud.token(repository)))
    assert again.settled([src], dest) == answer
    assert again.fetch(answer).status_code == 200


def test_without_registry_and_api(
    cloud: Cloud, repository: str, server: Server, asker: Asker
) -> None:
    """What is there is served; what is not is told so."""
    src, dest = pushed(cloud, repository, "away")
    answer = asker.settled([src], dest)
    other, new = pushed(cloud, repository, "away and back")
    cloud.registry.container.pause()
    cloud.api.process.send_signal(signal.SIGSTOP)  # type: ignore[union-attr]
    try:
        assert asker.settled([src], dest) == answer
        assert asker.fetch(answer).status_code == 200
        assert server.client().get("/healthy").status_code == 200
    finally:
        cloud.registry.container.unpause()
        cloud.api.process.send_signal(signal.SIGCONT)  # type: ignore[union-attr]
    server.stop()
    server.config["registry_url"] = "http://127.0.0.1:1"
    server.start()
    again = Asker(server.client(cloud.token(repository)))
    got = again.ask([other], new)
    assert got.status_code == 503
    assert int(got.headers["Retry-After"]) > 0
    assert "the registry does not answer" in got.json()["message"]
    assert "Traceback" not in server.log


def test_a_corrupt_layer(cloud: Cloud, repository: str, server: Server, asker: Asker) -> None:
    """It is told, nothing is made of it, and it is tried again."""
    good = tar({"app": text("corrupt", SIZE)})
    layer = tar({"app": text("corrupt", SIZE) + b"more"})
    push = cloud.registry.push
    src, dest = (
        cloud.reference(repository, push(repository, [each], "plain")) for each in (good, layer)
    )
    cloud.registry.spoil(digest(layer), layer[:-10] + b"x" * 10)
    got = asker.ask([src], dest, wait=30)
    assert got.status_code == 503
    assert f"the registry sent a corrupt layer {digest(layer)}" in got.json()["message"]
    assert int(got.headers["Retry-After"]) >= 1
    cloud.registry.spoil(digest(layer), layer)
    time.sleep(0.5)
    assert asker.settled([src], dest).state is DeltaState.READY


def test_an_image_that_lies_about_its_layer(cloud: Cloud, repository: str, asker: Asker) -> None:
    src, _ = pushed(cloud, repository, "honest")
    lie: dict[str, Any] = {"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]}}
    image = cloud.registry.push(repository, [tar({"app": text("lie", 9000)})], **lie)
    answer = asker.settled([src], cloud.reference(repository, image))
    assert answer.state is DeltaState.WHOLE
    assert answer.reason
    assert "as the image says" in answer.reason


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"pair_bytes": 1024**2, "cache_bytes": 1024**2}, "deltas are made of at most"),
        ({"seconds": 1}, "takes longer than 1 s"),
    ],
)
def test_limits_make_it_whole(
    cloud: Cloud, repository: str, start: Start, limits: dict[str, int], word: str
) -> None:
    server = start(limits=limits)
    src, dest = pushed(cloud, repository, f"limits {word}", 8_000_000)
    asker = Asker(server.client(cloud.token(repository)))
    answer = asker.settled([src], dest)
    assert answer.state is DeltaState.WHOLE
    assert answer.reason
    assert word in answer.reason
    # Who raises them gets one.
    server.stop()
    server.config["limits"] = {}
    server.start()
    again = Asker(server.client(cloud.token(repository)))
    assert again.settled([src], dest).state is DeltaState.READY


def deaths(server: Server) -> list[str]:
    """What the log says of processes that were killed."""
    lines = server.log.splitlines()
    return [each for each in lines if each.startswith("delta ") and "ended (-9)" in each]


def test_a_process_that_is_killed_again_and_again(
    cloud: Cloud, repository: str, server: Server, asker: Asker
) -> None:
    """It dies of the pair then; and leaves nothing behind."""
    src, dest = pushed(cloud, repository, "killed again", 3_000_000)
    work = Path(server.config["data"]) / "work"
    for times in range(1, 4):
        server.wait(lambda: asker.ask([src], dest).status_code == 202)
        (child,) = server.wait(lambda: children(server))
        # Amid its work, of which the folder has parts by then.
        server.wait(lambda: list(work.glob("*/*.part")))
        os.kill(child, signal.SIGKILL)
        server.wait(lambda times=times: len(deaths(server)) == times)
    answer = asker.settled([src], dest)
    assert answer.state is DeltaState.WHOLE
    assert answer.reason == "the process that makes it ended (-9), 3 times"
    assert list(work.iterdir()) == []


def test_a_full_queue(cloud: Cloud, repository: str, start: Start) -> None:
    server = start(limits={"queue": 1})
    asker = Asker(server.client(cloud.token(repository)))
    pairs = [pushed(cloud, repository, f"queue {each}") for each in range(3)]
    got = [asker.ask([src], dest) for src, dest in pairs]
    assert [each.status_code for each in got] == [202, 202, 503]
    assert got[2].headers["Retry-After"] == "30"
    assert "wait to be made" in got[2].json()["message"]
    src, dest = pairs[1]
    assert asker.settled([src], dest).state is DeltaState.READY

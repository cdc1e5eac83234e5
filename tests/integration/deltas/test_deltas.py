"""From an asked pair to a delta that rebuilds the layer, and what is told of it meanwhile."""

import concurrent.futures
import hashlib
import re
import tarfile
from io import BytesIO
from pathlib import Path

import httpx2
import pytest

from gantry.contracts.deltas import (
    FIGURES_PATH,
    MEDIA_TYPE,
    DeltaPair,
    DeltaState,
    Figures,
    figures_question,
)
from gantry.deltas.apply import rebuild
from gantry.deltas.names import names_of_pair
from gantry.deltas.reader import Delta, DeltaError
from tests.integration.registry.blobs import digest

from .conftest import Cloud, Start
from .registry import tar, text
from .server import Asker, Server

KILOBYTE = 1024
BASE = tar({"usr/lib/libc.so": text("libc", 300 * KILOBYTE)})


def application(version: str, size: int = 200 * KILOBYTE) -> bytes:
    """A layer of which a little differs from version to version."""
    same = text("application", size)
    return tar({"app/code": same + version.encode() * 40, "app/data": text("data", 50_000)})


class Pair:
    """Two images that are in the registry, new ones each time."""

    def __init__(self, cloud: Cloud, repository: str, seed: str, how: str = "gzip") -> None:
        self.old, self.new = application(f"{seed} 1"), application(f"{seed} 2")
        push = cloud.registry.push
        self.src = cloud.reference(repository, push(repository, [BASE, self.old], how))
        pushed = push(repository, [BASE, self.new], how)
        self.dest = cloud.reference(repository, pushed)
        self.config = cloud.registry.config_of(repository, pushed)


@pytest.fixture
def server(shared: Server) -> Server:
    return shared


@pytest.fixture
def asker(device_at_shared: Asker) -> Asker:
    return device_at_shared


@pytest.fixture
def pair(cloud: Cloud, repository: str, request: pytest.FixtureRequest) -> Pair:
    return Pair(cloud, repository, request.node.name)


def check_rebuilds(content: bytes, pair: Pair, folder: Path) -> None:
    """The delta makes the new layer of the old one's files, bit for bit."""
    file = folder / "x.gantry-delta"
    file.write_bytes(content)
    with pytest.raises(DeltaError, match="holds no names"):
        Delta.open(file)
    layers = [digest(each) for each in (BASE, pair.old, pair.new)]
    delta = Delta.open(file, names_of_pair([layers[:2]], pair.config, [layers[0], layers[2]]))
    assert [each.diff_id for each in delta.layers] == [digest(pair.new)]
    sources: dict[str, Path] = {}
    for number, layer in enumerate((BASE, pair.old)):
        sources[digest(layer)] = folder / f"layer{number}"
        with tarfile.open(fileobj=BytesIO(layer)) as archive:
            archive.extractall(sources[digest(layer)])  # noqa: S202 - made above
    out = bytearray()
    rebuild(delta, digest(pair.new), sources, out.extend)
    assert bytes(out) == pair.new


@pytest.mark.parametrize("how", ["gzip", "zstd", "plain"])
def test_a_delta_rebuilds_the_layer(
    cloud: Cloud, repository: str, server: Server, asker: Asker, tmp_path: Path, how: str
) -> None:
    pair = Pair(cloud, repository, f"rebuilds {how}", how)
    begun = asker.ask([pair.src], pair.dest)
    assert begun.status_code == 202
    assert begun.json()["state"] == "working"
    assert begun.headers["Retry-After"] == str(begun.json()["retry_after"])
    answer = asker.settled([pair.src], pair.dest)
    assert answer.state is DeltaState.READY
    assert answer.size
    assert answer.whole
    assert answer.size < answer.whole * 0.1
    got = asker.fetch(answer)
    assert got.status_code == 200
    assert got.headers["Content-Type"] == MEDIA_TYPE
    assert got.headers["ETag"] == f'"{answer.digest}"'
    assert digest(got.content) == answer.digest
    assert len(got.content) == answer.size
    check_rebuilds(got.content, pair, tmp_path)
    assert f"{str(answer.digest)[7:]}.gantry-delta" in {each.name for each in server.deltas}


def test_twenty_who_ask_are_answered_by_one_making(
    cloud: Cloud, repository: str, server: Server, pair: Pair
) -> None:
    clients = [server.client(cloud.token(repository)) for _ in range(20)]
    before, lines = server.made(), server.log.count(" bytes instead of ")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda each: Asker(each).settled([pair.src], pair.dest), clients))
    assert {each.digest for each in answers} == {answers[0].digest}
    assert answers[0].state is DeltaState.READY
    assert server.made() == before + 1
    assert server.log.count(" bytes instead of ") == lines + 1


def test_what_is_told_while_it_is_made(cloud: Cloud, repository: str, start: Start) -> None:
    server = start()
    asker = Asker(server.client(cloud.token(repository)))
    first, second, third = (Pair(cloud, repository, f"told {each}") for each in range(3))
    got = asker.ask([first.src], first.dest).json()
    assert got["state"] == "working"
    # Nothing was made yet that could tell.
    assert "seconds" not in got
    assert "size" not in got
    answer = asker.settled([first.src], first.dest)
    assert got["whole"] == answer.whole
    # It may have been ready too soon to be seen at work: so one waits for the other.
    asked = [asker.ask([each.src], each.dest).json() for each in (second, third)]
    last = asked[1]
    assert last["state"] == "working"
    assert last["whole"] == asker.settled([third.src], third.dest).whole
    assert answer.size
    assert last["size"] == pytest.approx(answer.size, rel=0.1)
    assert 1 <= last["seconds"] <= 60


def test_figures_and_downloads(
    repository: str, server: Server, asker: Asker, pair: Pair, cloud: Cloud
) -> None:
    other = DeltaPair((pair.dest,), pair.src)
    asked = figures_question([DeltaPair((pair.src,), pair.dest), other])
    before = Figures.from_json(asker.client.post(FIGURES_PATH, json=asked).json())
    assert [each.state for each in before.pairs] == [DeltaState.UNKNOWN] * 2
    downloads, sent = (
        server.metric(f"gantry_deltas_{each}_total") for each in ("downloads", "sent_bytes")
    )
    answer = asker.settled([pair.src], pair.dest)
    for _ in range(2):
        asker.fetch(answer)
    # One that was broken off counts when its rest is fetched.
    asker.fetch(answer, Range="bytes=0-9")
    asker.fetch(answer, Range="bytes=10-")
    # It is counted once the last byte is sent.
    server.wait(lambda: server.metric("gantry_deltas_downloads_total") == downloads + 3)
    figures = lambda: Figures.from_json(asker.client.post(FIGURES_PATH, json=asked).json())  # noqa: E731
    server.wait(lambda: figures().pairs[0].downloads == 3)
    found, unknown = figures().pairs
    assert (found.state, found.size, found.whole) == (
        DeltaState.READY,
        answer.size,
        answer.whole,
    )
    assert found.generate_seconds
    assert unknown.state is DeltaState.UNKNOWN
    assert answer.size
    assert server.metric("gantry_deltas_sent_bytes_total") == sent + 3 * answer.size
    stored = sum(each.stat().st_size for each in server.deltas)
    assert server.metric("gantry_deltas_stored_bytes") == stored


def test_what_is_over_the_limit_is_whole_and_stays_so(
    cloud: Cloud, repository: str, server: Server, asker: Asker
) -> None:
    push = cloud.registry.push
    layers = [tar({"random": text(seed, 100_000)}) for seed in ("one", "another")]
    src, dest = (cloud.reference(repository, push(repository, [BASE, each])) for each in layers)
    count, kept = server.metric('gantry_deltas_made_total{outcome="whole"}'), server.deltas
    answer = asker.settled([src], dest)
    assert answer.state is DeltaState.WHOLE
    assert answer.reason
    assert answer.whole
    # It is not made to its end.
    told = re.fullmatch(
        r"the delta would have more than (\d+) bytes, and may have (\d+)", answer.reason
    )
    assert told
    assert int(told[1]) > int(told[2]) == answer.whole * 70 // 100
    assert answer.size is None
    assert asker.settled([src], dest) == answer
    assert server.metric('gantry_deltas_made_total{outcome="whole"}') == count + 1
    assert server.deltas == kept


def test_what_needs_no_delta_or_can_have_none_is_whole_at_once(
    cloud: Cloud, repository: str, asker: Asker, pair: Pair
) -> None:
    def reason(src: str, dest: str) -> str:
        got = asker.ask([src], dest)
        assert got.status_code == 200, got.text
        assert got.json()["state"] == "whole"
        return str(got.json()["reason"])

    assert "a pull fetches none" in reason(pair.src, pair.src)
    push = cloud.registry.push
    amd64 = push(repository, [BASE, application("amd64")], architecture="amd64")
    other = cloud.reference(repository, amd64)
    assert "is for linux/arm64, not for linux/amd64" in reason(pair.src, other)
    several = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [
            {
                "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                "size": 1, "digest": each, "platform": {"architecture": name, "os": "linux"},
            }
            for each, name in ((amd64, "amd64"), (pair.src.partition("@")[2], "arm64"))
        ],
    }  # fmt: skip
    index = cloud.reference(repository, cloud.registry.put_manifest(repository, several))
    assert "is for 2 platforms" in reason(pair.src, index)


def test_several_sources_and_their_order(
    cloud: Cloud, repository: str, server: Server, asker: Asker, pair: Pair
) -> None:
    moved = tar({"moved/here": text("elsewhere", 150 * KILOBYTE)})
    push = cloud.registry.push
    other = cloud.reference(repository, push(repository, [BASE, moved]))
    renamed = tar({"there": text("elsewhere", 150 * KILOBYTE), "more": pair.old[:1000]})
    dest = cloud.reference(repository, push(repository, [BASE, renamed]))
    before = server.made()
    both = asker.settled([pair.src, other], dest)
    assert both.state is DeltaState.READY
    assert asker.settled([other, pair.src], dest) == both
    assert server.made() == before + 1
    alone = asker.settled([pair.src], dest)
    assert alone.state is DeltaState.WHOLE


def test_images_that_are_not_there(cloud: Cloud, repository: str, asker: Asker, pair: Pair) -> None:
    nothing = cloud.reference(repository, "sha256:" + hashlib.sha256(b"nothing").hexdigest())
    for src, dest in ((nothing, pair.dest), (pair.src, nothing)):
        got = asker.ask([src], dest)
        assert got.status_code == 404
        assert "the registry does not have" in got.json()["message"]


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("", "src"),
        ("src={src}", "is no image by its digest"),
        ("dest={dest}", "name 1 to 8"),
        ("src={src}&dest=busybox", "is no image by its digest"),
        ("src={src}&dest={dest}&wait=51", "50 at most"),
        ("src={src}&dest={dest}&wait=-1", "50 at most"),
        ("src={src}&dest=registry.example.org/a@{digest}", "not this fleet's registry"),
        ("&".join(["src={src}"] * 9) + "&dest={dest}", "name 1 to 8"),
        ("src={src}&dest={dest}/../x", "is no image by its digest"),
    ],
)
def test_wrong_questions(asker: Asker, pair: Pair, query: str, word: str) -> None:
    digest = pair.src.partition("@")[2]
    filled = query.format(src=pair.src, dest=pair.dest, digest=digest)
    got = asker.client.get(f"/gantry/v1/delta?{filled}")
    assert got.status_code == 400, got.text
    assert word in got.json()["message"]


def test_the_familys_question(
    cloud: Cloud, repository: str, server: Server, pair: Pair, start: Start
) -> None:
    registry = cloud.registry.name
    # Its supervisors ask with a token for the registry.
    client = server.client(cloud.token(repository, service=registry))
    for src in (pair.src, "resin/scratch", ""):
        got = client.get("/api/v3/delta", params={"src": src, "dest": pair.dest})
        assert (got.status_code, got.json()) == (200, {"name": pair.dest})
    nothing = pair.dest[:-4] + "0000"
    params = {"src": pair.src, "dest": nothing}
    assert client.get("/api/v3/delta", params=params).status_code == 404
    assert server.client().get("/api/v3/delta", params=params).status_code == 401
    away = start(registry_url="http://127.0.0.1:1")
    client = away.client(cloud.token(repository, service=registry))
    got = client.get("/api/v3/delta", params={"src": pair.src, "dest": pair.dest})
    assert got.status_code == 504


def test_health(server: Server) -> None:
    for path in ("/ping", "/healthy"):
        got = httpx2.get(f"{server.url}{path}")
        assert (got.status_code, got.text) == (200, "OK")

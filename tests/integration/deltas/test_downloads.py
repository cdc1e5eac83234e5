"""Downloads that are cut and go on, and who may download."""

import random
import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from gantry.contracts.deltas import DELTA_PATH, FIGURES_PATH, DeltaAnswer, DeltaPair
from tests.integration.api.conftest import Device, _certificate

from .conftest import Cloud
from .registry import tar, text
from .server import Asker, Server


class Made:
    """A delta that is there."""

    def __init__(self, cloud: Cloud, repository: str, asker: Asker) -> None:
        same = text("downloads", 200_000)
        layers = [tar({"app": same + text(each, 9000)}) for each in ("1", "2")]
        push = cloud.registry.push
        self.src, self.dest = (
            cloud.reference(repository, push(repository, [each])) for each in layers
        )
        self.pair = DeltaPair((self.src,), self.dest)
        self.answer: DeltaAnswer = asker.settled([self.src], self.dest)
        self.content = asker.fetch(self.answer).content
        assert len(self.content) == self.answer.size


@pytest.fixture
def server(shared: Server) -> Server:
    return shared


@pytest.fixture
def asker(device_at_shared: Asker) -> Asker:
    return device_at_shared


@pytest.fixture(scope="session")
def made(cloud: Cloud, repository: str, device_at_shared: Asker) -> Made:
    return Made(cloud, repository, device_at_shared)


def test_no_byte_is_fetched_twice(made: Made, asker: Asker) -> None:
    """A device that is cut off again and again goes on where it was."""
    generator = random.Random(8)  # noqa: S311 - the same at each run
    content, total = b"", len(made.content)
    while len(content) < total:
        most = generator.randrange(1, 2000)
        headers = {"Range": f"bytes={len(content)}-"}
        assert made.answer.url
        with asker.client.stream("GET", made.answer.url, headers=headers) as got:
            assert got.status_code == 206
            left = total - len(content)
            assert got.headers["Content-Length"] == str(left)
            assert got.headers["Content-Range"] == f"bytes {len(content)}-{total - 1}/{total}"
            taken = b""
            for piece in got.iter_raw(64):
                taken += piece
                if len(taken) >= most:
                    break
        content += taken
    assert content == made.content


def test_each_single_range(made: Made, asker: Asker) -> None:
    size = len(made.content)
    for start in range(0, size, 997):
        got = asker.fetch(made.answer, Range=f"bytes={start}-{start}")
        assert (got.status_code, got.content) == (206, made.content[start : start + 1])
    got = asker.fetch(made.answer, Range="bytes=-10")
    assert (got.status_code, got.content) == (206, made.content[-10:])
    got = asker.fetch(made.answer, Range=f"bytes=5-{size + 100}")
    assert (got.status_code, got.content) == (206, made.content[5:])


@pytest.mark.parametrize("asked", ["bytes=0-1,3-4", "lines=0-1", "bytes=9-3", "bytes=-", "x"])
def test_what_is_no_single_range_is_the_whole(made: Made, asker: Asker, asked: str) -> None:
    got = asker.fetch(made.answer, Range=asked)
    assert (got.status_code, got.content) == (200, made.content)


def test_ranges_after_the_end_and_of_another_file(made: Made, asker: Asker) -> None:
    size = len(made.content)
    for start in (size, size + 1):
        got = asker.fetch(made.answer, Range=f"bytes={start}-")
        assert got.status_code == 416
        assert got.headers["Content-Range"] == f"bytes */{size}"
    headers = {"Range": "bytes=10-", "If-Range": f'"{made.answer.digest}"'}
    assert asker.fetch(made.answer, **headers).content == made.content[10:]
    headers["If-Range"] = '"sha256:another"'
    got = asker.fetch(made.answer, **headers)
    assert (got.status_code, got.content) == (200, made.content)


def test_head_and_other_digests(made: Made, asker: Asker) -> None:
    assert made.answer.url
    got = asker.client.head(made.answer.url)
    assert (got.status_code, got.content) == (200, b"")
    assert got.headers["Content-Length"] == str(len(made.content))
    assert got.headers["Accept-Ranges"] == "bytes"
    digest = str(made.answer.digest)
    other = made.answer.url.replace(digest, "sha256:" + "0" * 64)
    assert asker.client.get(other).status_code == 404
    turned = DeltaPair((made.dest,), made.src).query()
    assert asker.client.get(f"/gantry/v1/deltas/{digest}?{turned}").status_code == 404


def test_a_lost_file_is_made_again(made: Made, asker: Asker, server: Server) -> None:
    before = server.made()
    (file,) = (each for each in server.deltas if str(made.answer.digest)[7:] in each.name)
    file.unlink()
    got = asker.fetch(made.answer)
    assert got.status_code == 404
    assert "not here any more" in got.json()["message"]
    assert asker.settled([made.src], made.dest) == made.answer
    assert asker.fetch(made.answer).content == made.content
    assert server.made() == before + 1


Forge = Callable[[Cloud, str], str | None]


def _claims(**claims: Any) -> Forge:
    def forge(cloud: Cloud, repository: str) -> str:
        own = {"aud": f"delta.{cloud.api.config['host']}:8443"} | claims
        return cloud.registry.token((repository, "pull"), **own)

    return forge


def _foreign(cloud: Cloud, repository: str) -> str:
    """Signed by somebody else, who says that it was the api."""
    real, key = cloud.registry.key_pem, _certificate()[0]
    cloud.registry.key_pem = key
    try:
        return str(_claims()(cloud, repository))
    finally:
        cloud.registry.key_pem = real


def _without_chain(cloud: Cloud, repository: str) -> str:
    real = cloud.registry.chain
    cloud.registry.chain = []
    try:
        return str(_claims()(cloud, repository))
    finally:
        cloud.registry.chain = real


def _own_chain(cloud: Cloud, repository: str) -> str:
    """Somebody's own key, and their own certificate with it."""
    key, certificate = _certificate()
    real = cloud.registry.key_pem, cloud.registry.chain
    body = "".join(certificate.splitlines()[1:-1])
    cloud.registry.key_pem, cloud.registry.chain = key, [body]
    try:
        return str(_claims()(cloud, repository))
    finally:
        cloud.registry.key_pem, cloud.registry.chain = real


def _push_only(cloud: Cloud, repository: str) -> str:
    return cloud.registry.token((repository, "push"), aud=f"delta.{cloud.api.config['host']}:8443")


def _hour(seconds: int) -> int:
    return int(time.time()) + seconds


WHO: dict[str, tuple[Forge, int]] = {
    "nobody": (lambda *_: None, 401),
    "nonsense": (lambda *_: "nonsense", 401),
    "the device": (lambda cloud, repository: cloud.token(repository), 200),
    "the api's key": (_claims(), 200),
    "for the registry": (lambda cloud, name: cloud.token(name, service=cloud.registry.name), 401),
    "another fleet's device": (
        lambda cloud, repository: cloud.token(repository, device=_other(cloud)),
        403,
    ),
    "for another repository": (lambda cloud, _: cloud.token(f"{_}x"), 403),
    "to push only": (_push_only, 403),
    "ended": (_claims(exp=_hour(-120)), 401),
    "not yet": (_claims(nbf=_hour(3600)), 401),
    "of another issuer": (_claims(iss="somebody"), 401),
    "for another service": (_claims(aud="delta.example.org"), 401),
    "another's signature": (_foreign, 401),
    "without a certificate": (_without_chain, 401),
    "with a certificate of its own": (_own_chain, 401),
}


def _other(cloud: Cloud) -> Device:
    user = cloud.fleet.user
    body = {"app_name": f"other{time.monotonic_ns()}", "is_for__device_type": "raspberrypi3-64"}
    made = user.post("/v7/application", json=body)
    assert made.status_code == 201
    key = user.post(f"/api-key/application/{made.json()['id']}/provisioning", json={}).json()
    body = {"application": made.json()["id"], "uuid": f"{time.time_ns():032x}"}
    got = cloud.api.client(key).post("/device/register", json=body | {"api_key": "k" * 32})
    assert got.status_code == 201, got.text
    told = got.json()
    return Device(told["id"], told["uuid"], told["api_key"], cloud.api.client(told["api_key"]))


def test_who_may(cloud: Cloud, repository: str, server: Server, made: Made) -> None:
    """Every endpoint, before everybody."""
    assert made.answer.url
    for who, (forge, status) in WHO.items():
        client = server.client(forge(cloud, repository))
        body = {"pairs": [made.pair.to_json()]}
        answers: dict[str, httpx2.Response] = {
            "delta": client.get(f"{DELTA_PATH}?{made.pair.query()}"),
            "file": client.get(made.answer.url),
            "figures": client.post(FIGURES_PATH, json=body),
        }
        found = {name: each.status_code for name, each in answers.items()}
        assert found == dict.fromkeys(answers, status), who
        for each in answers.values():
            if status == 401:
                challenge = each.headers["WWW-Authenticate"]
                assert f'service="delta.{cloud.api.config["host"]}:8443"' in challenge
                assert f'scope="repository:{repository}:pull"' in challenge
            if status >= 400:
                assert set(each.json()) == {"message"}


def test_all_images_of_the_pair_must_be_allowed(
    cloud: Cloud, repository: str, server: Server, made: Made
) -> None:
    """Also the sources: what is in a delta tells of them."""
    foreign = "v2/" + "f" * 32
    secret = cloud.reference(foreign, cloud.registry.push(foreign, [tar({"a": text("a", 5000)})]))
    client = server.client(cloud.token(repository, foreign))
    for src, dest in (([secret], made.dest), ([made.src], secret), ([made.src, secret], made.dest)):
        assert Asker(client).ask(src, dest).status_code == 403
    # The same digest under a name that one may pull is no way in.
    renamed = cloud.reference(repository, secret.partition("@")[2])
    assert Asker(client).ask([made.src], renamed).status_code == 404

"""What the delta server tells of its space, and what it removes, on the collector's order."""

from typing import Any

import httpx2
import pytest

from gantry.contracts.delta_space import (
    ALL_DELTAS,
    COLLECT_PATH,
    LOOK_PATH,
    DeltaSpace,
    look_question,
)
from gantry.contracts.deltas import DeltaState

from .conftest import DELTA, REGISTRY, Cloud
from .server import Asker, Server
from .test_outages import pushed

SCOPE = f"repository:{ALL_DELTAS}:delete"


def token(cloud: Cloud, service: str = DELTA) -> str:
    """What the collector gets of the api."""
    got = httpx2.get(
        f"{cloud.api.url}/auth/v1/token", params={"service": service, "scope": SCOPE},
        auth=("collector", cloud.api.config["service_keys"]["collector"]),
    )  # fmt: skip
    assert got.status_code == 200, got.text
    return str(got.json()["token"])


def told(answer: httpx2.Response) -> DeltaSpace:
    assert answer.status_code == 200, answer.text
    return DeltaSpace.from_json(answer.json())


def place(reference: str) -> tuple[str, str]:
    """Repository and digest."""
    name, _, digest = reference.partition("/")[2].partition("@")
    return name, digest


@pytest.mark.parametrize("path", [LOOK_PATH, COLLECT_PATH])
def test_it_is_for_the_collector_alone(
    cloud: Cloud, repository: str, shared: Server, path: str
) -> None:
    def status(bearer: str | None, body: Any = None) -> int:
        return shared.client(bearer).post(path, json=body or look_question([])).status_code

    refused = shared.client().post(path, json={})
    assert refused.status_code == 401
    assert f'scope="{SCOPE}"' in refused.headers["WWW-Authenticate"]
    assert status(cloud.token(repository, ALL_DELTAS)) == 403
    # Whatever a device asks for: it is given nothing to delete.
    asked = httpx2.get(
        f"{cloud.api.url}/auth/v1/token", params={"service": DELTA, "scope": SCOPE},
        auth=(f"d_{cloud.device.uuid}", cloud.device.key),
    ).json()  # fmt: skip
    assert status(asked["token"]) == 403
    assert status(token(cloud, REGISTRY)) == 401
    assert status(token(cloud)) == 200


def test_a_look_says_what_a_collection_does(
    cloud: Cloud, repository: str, server: Server, asker: Asker
) -> None:
    going, gone, stays = (pushed(cloud, repository, f"space {each}") for each in range(3))
    sizes = []
    for src, dest in (going, gone, stays):
        answer = asker.settled([src], dest)
        assert answer.state is DeltaState.READY
        sizes.append(int(answer.size or 0))
    collector = server.client(token(cloud))
    everything = told(collector.post(LOOK_PATH, json=look_question([])))
    assert everything == DeltaSpace(3, sum(sizes))
    cloud.registry.remove(*place(gone[1]))
    before = server.deltas
    look = told(collector.post(LOOK_PATH, json=look_question([place(going[0])])))
    assert (look.count, look.size, look.goes, look.frees) == (3, sum(sizes), 2, sum(sizes[:2]))
    assert {each.dest for each in look.deltas} == {
        "@".join(place(each[1])) for each in (going, gone)
    }
    assert {each.src for each in look.deltas} == {
        ("@".join(place(each[0])),) for each in (going, gone)
    }
    assert {each.reason for each in look.deltas} == {"an image of it goes, or is gone"}
    assert server.deltas == before

    # Only what has gone counts now: a look's word for it does not.
    first = told(collector.post(COLLECT_PATH))
    assert (first.removed, first.freed) == (1, sizes[1])
    assert (first.count, first.size, first.goes) == (2, sizes[0] + sizes[2], 0)
    cloud.registry.remove(*place(going[0]))
    second = told(collector.post(COLLECT_PATH))
    assert [each.size for each in second.deltas] == [second.freed] == [sizes[0]]
    assert told(collector.post(COLLECT_PATH)) == DeltaSpace(1, sizes[2])
    assert len(server.deltas) == 1
    assert asker.ask([stays[0]], stays[1]).json()["state"] == "ready"


def test_files_of_no_pair_and_wrong_questions(
    cloud: Cloud, server: Server, asker: Asker, repository: str
) -> None:
    src, dest = pushed(cloud, repository, "space and a stray")
    size = int(asker.settled([src], dest).size or 0)
    (file,) = server.deltas
    (file.parent / f"{'0' * 64}.gantry-delta").write_bytes(b"x" * 100)
    collector = server.client(token(cloud))
    look = told(collector.post(LOOK_PATH, json=look_question([])))
    assert (look.count, look.size, look.goes, look.frees) == (2, size + 100, 1, 100)
    assert [(each.src, each.dest, each.reason) for each in look.deltas] == [
        ((), "", "no pair has it")
    ]
    assert told(collector.post(COLLECT_PATH)).freed == 100
    assert server.deltas == [file]
    refused = collector.post(LOOK_PATH, json={"going": ["nothing"]})
    assert (refused.status_code, "is no image" in refused.json()["message"]) == (400, True)


def test_without_the_registry_what_needs_no_asking_goes(
    cloud: Cloud, repository: str, server: Server, asker: Asker
) -> None:
    src, dest = pushed(cloud, repository, "space without a registry")
    assert asker.settled([src], dest).state is DeltaState.READY
    (file,) = server.deltas
    server.stop()
    # Nobody listens there.
    server.config["registry_url"] = "http://127.0.0.1:9"
    server.start()
    stray = file.parent / f"{'0' * 64}.gantry-delta"
    stray.write_bytes(b"x")
    collector = server.client(token(cloud))
    for path in (LOOK_PATH, COLLECT_PATH):
        away = collector.post(path, json=look_question([]))
        assert away.status_code == 503, away.text
        assert "the registry does not answer" in away.json()["message"]
    assert server.deltas == [file]
    assert "Traceback" not in server.log

"""What is made ahead of time, what is kept and for how long, and where."""

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from gantry.contracts.deltas import DeltaState
from tests.integration.api.conftest import Device
from tests.integration.registry.blobs import digest

from .conftest import Cloud, Start
from .registry import tar, text
from .server import Asker, Server
from .test_outages import children, pushed


def device_on(cloud: Cloud, release: int) -> Device:
    """A device that runs this release of the fleet."""
    uuid = cloud.fleet.uuid
    commits = cloud.fleet.user.get(
        f"/v7/release?$filter=belongs_to__application/uuid eq '{uuid}'&$select=id,commit"
    ).json()["d"]
    commit = {each["id"]: each["commit"] for each in commits}[release]
    device = cloud.fleet.register()
    body = {
        device.uuid: {
            "apps": {uuid: {"release_uuid": commit, "releases": {commit: {"services": {}}}}}
        }
    }
    got = device.client.patch("/device/v3/state", json=body)
    assert got.status_code == 200, got.text
    return device


def remove(cloud: Cloud, devices: list[Device]) -> None:
    for each in devices:
        gone = cloud.fleet.user.delete(f"/v7/device({each.id})")
        assert gone.status_code == 200, gone.text


def test_what_most_devices_need_is_made_first(cloud: Cloud, repository: str, start: Start) -> None:
    same = text("ahead", 200_000)
    images = [
        cloud.registry.push(repository, [tar({"app": same + str(each).encode() * 3000})])
        for each in range(4)
    ]
    releases = [cloud.release({"main": each}) for each in images]
    # One on the first release, three on the second, two on the third; all are to run the fourth.
    counts = ((0, 1), (1, 3), (2, 2))
    devices = [device_on(cloud, releases[number]) for number, count in counts for _ in range(count)]
    wanted = cloud.api.service("deltas").get("/services/deltas/wanted").json()["pairs"]
    refs = [cloud.reference(repository, each) for each in images]
    assert wanted == [
        {"src": [refs[number]], "dest": refs[3], "devices": count}
        for number, count in ((1, 3), (2, 2), (0, 1))
    ]
    server = start(ahead_seconds=0.2)
    server.wait(lambda: server.made() == 3)
    order = [line for line in server.log.splitlines() if " bytes instead of " in line]
    for line, number in zip(order, (1, 2, 0), strict=True):
        assert f"@{images[number][7:19]} -> " in line
    # They are there before anybody asks.
    asker = Asker(server.client(cloud.token(repository)))
    assert asker.ask([refs[0]], refs[3]).json()["state"] == "ready"
    assert server.metric("gantry_deltas_api_up") == 1
    remove(cloud, devices)


def test_one_that_the_registry_cannot_deliver_blocks_no_other(
    cloud: Cloud, repository: str, start: Start
) -> None:
    same = text("undeliverable", 200_000)
    images = [
        cloud.registry.push(repository, [tar({"app": same + str(each).encode() * 3000})])
        for each in range(3)
    ]
    releases = [cloud.release({"main": each}) for each in images]
    # Most devices need the one that cannot be had.
    devices = [device_on(cloud, releases[number]) for number in (0, 0, 1)]
    config = cloud.registry.config_of(repository, images[0])
    token = cloud.registry.token((repository, "pull"))
    headers = {"Authorization": f"Bearer {token}"}
    right = cloud.registry.client.get(f"/v2/{repository}/blobs/{config}", headers=headers).content
    cloud.registry.spoil(config, right.replace(b"arm64", b"ARM64"))
    server = start(ahead_seconds=0.2)
    server.wait(lambda: server.made() == 1)
    refs = [cloud.reference(repository, each) for each in images]
    asker = Asker(server.client(cloud.token(repository)))
    assert asker.ask([refs[1]], refs[2]).json()["state"] == "ready"
    assert server.metric("gantry_deltas_api_up") == 1
    told = "not made ahead of time for now: the registry sent another blobs/"
    assert server.log.count(told) == 1
    cloud.registry.spoil(config, right)
    server.wait(lambda: server.made() == 2)
    assert asker.ask([refs[0]], refs[2]).json()["state"] == "ready"
    remove(cloud, devices)


def test_who_asks_comes_before_it(cloud: Cloud, repository: str, start: Start) -> None:
    same = text("ahead, and then asked", 2_000_000)
    images = [
        cloud.registry.push(repository, [tar({"app": same + str(each).encode() * 3000})])
        for each in range(2)
    ]
    releases = [cloud.release({"main": each}) for each in images]
    devices = [device_on(cloud, releases[0])]
    src, dest = pushed(cloud, repository, "asked")
    server = start(ahead_seconds=0.2)
    (child,) = server.wait(lambda: children(server))
    # By itself it does not end.
    os.kill(child, signal.SIGSTOP)
    asker = Asker(server.client(cloud.token(repository)))
    assert asker.settled([src], dest).state is DeltaState.READY
    assert server.made() == 1
    assert "gives way to one that is waited for" in server.log
    server.wait(lambda: server.made() == 2)
    assert server.metric('gantry_deltas_made_total{outcome="deferred"}') == 1
    ahead, target = (cloud.reference(repository, each) for each in images)
    assert asker.ask([ahead], target).json()["state"] == "ready"
    remove(cloud, devices)


def test_what_is_old_or_too_much_goes(
    cloud: Cloud, repository: str, server: Server, asker: Asker
) -> None:
    pairs = [pushed(cloud, repository, f"old {each}") for each in range(3)]
    answers = [asker.settled([src], dest) for src, dest in pairs]
    assert all(each.state is DeltaState.READY for each in answers)
    assert len(server.deltas) == 3
    # The first one is used again: the second one is the oldest now.
    asker.settled([pairs[0][0]], pairs[0][1])
    sizes = [int(each.size or 0) for each in answers]
    server.stop()
    server.config["limits"] = {"storage_bytes": sizes[0] + sizes[2]}
    server.start()
    server.wait(lambda: len(server.deltas) == 2)
    kept = {f"{str(answers[each].digest)[7:]}.gantry-delta" for each in (0, 2)}
    assert {each.name for each in server.deltas} == kept
    server.stop()
    server.config["limits"] = {"days": 1e-6}
    server.start()
    server.wait(lambda: server.deltas == [])


def test_a_removed_image_takes_its_deltas_along(
    cloud: Cloud, repository: str, server: Server, asker: Asker
) -> None:
    src, dest = pushed(cloud, repository, "removed")
    other, stays = pushed(cloud, repository, "stays")
    for one, two in ((src, dest), (other, stays)):
        assert asker.settled([one], two).state is DeltaState.READY
    assert len(server.deltas) == 2
    cloud.registry.remove(repository, src.partition("@")[2])
    server.stop()
    server.start()
    server.wait(lambda: len(server.deltas) == 1)
    again = Asker(server.client(cloud.token(repository)))
    assert again.ask([src], dest).status_code == 404
    assert again.ask([other], stays).json()["state"] == "ready"


def test_layers_are_fetched_once_and_kept_within_the_limit(
    cloud: Cloud, repository: str, start: Start
) -> None:
    server = start(limits={"pair_bytes": 1024**2, "cache_bytes": 1024**2})
    asker = Asker(server.client(cloud.token(repository)))
    for number in range(3):
        src, dest = pushed(cloud, repository, f"cache {number}")
        assert asker.settled([src], dest).state is DeltaState.READY
    folder = Path(server.config["data"]) / "layers"
    kept = [each.stat().st_size for each in folder.iterdir()]
    assert sum(kept) <= 1024**2
    assert len(kept) == 3
    assert server.metric("gantry_deltas_layer_cache_bytes") == sum(kept)


@pytest.fixture
def bucket() -> Iterator[dict[str, Any]]:
    storage = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    storage.start()
    settings = {
        "bucket": f"deltas-{secrets.token_hex(4)}", "region": "us-east-1", "access_key": "a",
        "secret_key": "s", "endpoint": f"http://127.0.0.1:{storage.get_host_and_port()[1]}",
    }  # fmt: skip
    client = s3(settings)
    client.create_bucket(Bucket=settings["bucket"])
    client.close()
    yield settings
    storage.stop()


def s3(settings: dict[str, Any]) -> Any:
    return boto3.client(
        "s3", endpoint_url=settings["endpoint"], region_name=settings["region"],
        aws_access_key_id=settings["access_key"], aws_secret_access_key=settings["secret_key"],
    )  # fmt: skip


def names(settings: dict[str, Any]) -> set[str]:
    client = s3(settings)
    try:
        answer = client.list_objects_v2(Bucket=settings["bucket"])
        return {str(each["Key"]) for each in answer.get("Contents", [])}
    finally:
        client.close()


def test_a_bucket(cloud: Cloud, repository: str, start: Start, bucket: dict[str, Any]) -> None:
    server = start(bucket=bucket)
    asker = Asker(server.client(cloud.token(repository)))
    src, dest = pushed(cloud, repository, "bucket")
    answer = asker.settled([src], dest)
    assert answer.state is DeltaState.READY
    name = f"deltas/{str(answer.digest)[7:]}.gantry-delta"
    assert names(bucket) == {name}
    assert server.deltas == []
    content = asker.fetch(answer).content
    assert digest(content) == answer.digest
    got = asker.fetch(answer, Range="bytes=20-")
    assert (got.status_code, got.content) == (206, content[20:])
    # What is in the bucket and not in the index goes; what is the registry's stays.
    client = s3(bucket)
    client.put_object(Bucket=bucket["bucket"], Key="docker/registry/x", Body=b"x")
    client.put_object(Bucket=bucket["bucket"], Key=name.replace("deltas/", "deltas/0"), Body=b"x")
    orphan = f"deltas/{'0' * 64}.gantry-delta"
    client.put_object(Bucket=bucket["bucket"], Key=orphan, Body=b"x")
    server.stop()
    server.start()
    server.wait(lambda: orphan not in names(bucket))
    assert "docker/registry/x" in names(bucket)
    again = Asker(server.client(cloud.token(repository)))
    assert again.fetch(answer).content == content
    client.delete_object(Bucket=bucket["bucket"], Key=name)
    client.close()
    assert again.fetch(answer).status_code == 404
    assert again.settled([src], dest) == answer
    assert again.fetch(answer).content == content


def test_a_bucket_that_is_away(cloud: Cloud, repository: str, start: Start) -> None:
    settings = {
        "bucket": "nobodys", "region": "us-east-1", "access_key": "a", "secret_key": "s",
        "endpoint": "http://127.0.0.1:1",
    }  # fmt: skip
    server = start(bucket=settings)
    asker = Asker(server.client(cloud.token(repository)))
    src, dest = pushed(cloud, repository, "no bucket", 100_000)
    got = asker.ask([src], dest, wait=50)
    assert got.status_code == 503, got.text
    assert "bucket nobodys" in got.json()["message"]
    assert "Traceback" not in server.log

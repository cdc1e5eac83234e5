"""Every form of apps.json, and what is none."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.supervisor import wire
from gantry.supervisor.apps_json import Pin, read_apps_json
from gantry.supervisor.target import read_target

UUID = "a" * 32
IMAGE = f"registry.bots.example.org/v2/{'b' * 32}@sha256:{'0' * 64}"
SERVICE = {"id": 5, "image_id": 6, "image": IMAGE, "environment": {"A": "1"}, "labels": {}}
RELEASE = {"id": 9, "services": {"main": SERVICE}, "volumes": {}, "networks": {}}
APP = {"id": 7, "name": "bots", "class": "fleet", "releases": {"c0ffee": RELEASE}}
VERSION_2_SERVICE = {
    "imageId": 6,
    "serviceName": "main",
    "image": "registry.example.org:5000/path/to/image",
    "environment": {"A": "1"},
    "labels": {},
    "privileged": True,
    "ports": ["80:80"],
}
VERSION_2 = {
    "name": "bots",
    "commit": "c0ffee",
    "releaseId": 9,
    "services": {"5": VERSION_2_SERVICE},
}


def read(document: object, fleet: int | None = 7) -> Any:
    return read_apps_json(json.dumps(document).encode(), fleet)


def test_the_oldest_form() -> None:
    found = read(
        [
            {
                "appId": "7",
                "name": "bots",
                "commit": "c0ffee",
                "imageId": "registry.example.org/path/to/image",
                "env": {"KEY": "value"},
                "config": {"RESIN_SUPERVISOR_DELTA": "1"},
            }
        ]
    )
    [app] = read_target(found.target("d"), "d").apps
    assert (app.id, app.uuid, app.name) == (7, "7", "bots")
    assert app.release is not None
    [service] = app.release.services
    assert (service.name, service.image) == ("main", "registry.example.org/path/to/image:latest")
    assert service.environment == {"KEY": "value"}
    assert (found.config, found.pin) == ({"RESIN_SUPERVISOR_DELTA": "1"}, None)


@pytest.mark.parametrize("pinned", [True, False])
def test_version_2(pinned: bool) -> None:
    found = read({"apps": {"7": VERSION_2}, "config": {"A": 1}, "pinDevice": pinned})
    [app] = read_target(found.target("d"), "d").apps
    assert app.release is not None
    [service] = app.release.services
    assert (app.release.id, service.id, service.image_id) == (9, 5, 6)
    assert service.image == "registry.example.org:5000/path/to/image:latest"
    assert service.composition == {"privileged": True, "ports": ["80:80"]}
    assert found.pin == (Pin(7, 9, "c0ffee") if pinned else None)
    assert found.config == {"A": "1"}


@pytest.mark.parametrize(
    "document",
    [
        {"apps": {UUID: APP}, "config": {}, "pinDevice": True},
        {UUID: APP, "pinDevice": True},
        {"d" * 32: {"name": "x", "apps": {UUID: APP}, "config": {}, "pinDevice": True}},
        {"d" * 32: {"name": "x", "apps": {UUID: APP}}, "pinDevice": True},
    ],
)
def test_version_3(document: dict[str, Any]) -> None:
    found = read(document)
    [app] = read_target(found.target("d"), "d").apps
    assert app.release is not None
    assert (app.uuid, app.release.commit, app.release.services[0].image) == (UUID, "c0ffee", IMAGE)
    assert found.pin == Pin(7, 9, "c0ffee")


def test_the_fleets_of_others_are_left_out() -> None:
    apps = {UUID: APP, "e" * 32: {**APP, "id": 8}, "f" * 32: {**APP, "id": 9, "class": "block"}}
    found = read({"apps": apps, "pinDevice": True}, fleet=8)
    assert found.left_out == (7,)
    assert set(found.apps) == {"e" * 32, "f" * 32}
    assert found.pin == Pin(8, 9, "c0ffee")
    assert read({}).apps == {}


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([{"appId": 7, "commit": "c"}], "imageId is None"),
        ([{"appId": 7, "imageId": "x"}], "commit is None"),
        ([7], "entry 0 is 7"),
        ({"apps": {"7": {**VERSION_2, "services": {"x": VERSION_2_SERVICE}}}}, "serviceId is 'x'"),
        ({"apps": {UUID: {**APP, "id": None}}}, "id is None"),
        ({"apps": {UUID: {**APP, "releases": {"c": {**RELEASE, "id": "x"}}}}}, "id is 'x'"),
        ({"some": {}}, "it must be a list of applications, or an object with `apps`"),
        ("text", "an object is expected"),
    ],
)
def test_what_cannot_be_used_says_where(document: object, sentence: str) -> None:
    with pytest.raises(wire.WireError, match=sentence):
        read(document)


WORDS = (
    *("apps", "config", "pinDevice", "releases", "services", "id", "name", "7"),
    *("image", "appId", "commit", "imageId"),
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS) | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@settings(max_examples=1000, deadline=None)
@given(values, st.none() | st.just(7))
def test_any_json_is_read_or_refused_in_a_sentence(document: object, fleet: int | None) -> None:
    try:
        found = read(document, fleet)
    except wire.WireError:
        return
    read_target(found.target("d"), "d")


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_a_sentence(content: bytes) -> None:
    try:
        read_apps_json(content, 7)
    except wire.WireError:
        return

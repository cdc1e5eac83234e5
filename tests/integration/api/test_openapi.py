"""Whatever is sent to the paths of the OpenAPI document: an answer that it describes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gantry.api.app import interface
from tests.odata_texts import SETTINGS

from .conftest import Api, Device, Fleet

SCHEMA = schemathesis.openapi.from_dict(interface().openapi())
OPERATIONS = {each.ok().label: each.ok() for each in SCHEMA.get_all_operations()}
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# It answers 503 where the device is not connected.
UNAVAILABLE = {"POST /supervisor/{path}"}
# They do not end once they have begun; tests of their own read them.
STREAMS = {
    "GET /device/v3/{uuid}/events",
    "GET /services/logs/revocations",
    "GET /services/vpn/changes",
}
SERVICES = {"/auth/v1/public-keys/{username}": "git"}
FEW, MANY = 5, 100


@dataclass
class World:
    """A fleet, who may send what, and what is really there."""

    api: Api
    fleet: Fleet
    device: Device
    known: dict[str, Any]
    session: requests.Session = field(default_factory=requests.Session)

    def headers(self, caller: str, path: str) -> dict[str, str]:
        """The credential of a caller; what it is depends on the path where it is a service."""
        keys: dict[str, Callable[[], str]] = {
            "user": lambda: self.fleet.user.headers["Authorization"],
            "device": lambda: f"Bearer {self.device.key}",
            "provisioning": lambda: f"Bearer {self.known['provisioning']}",
            "service": lambda: f"Bearer {self.api.config['service_keys'][service_of(path)]}",
        }
        return {"Authorization": keys[caller]()} if caller in keys else {}

    def tie(self, case: Case) -> None:
        """Put what is really there into a request, where it has a place for it."""
        for name in set(case.path_parameters or {}) & set(self.known):
            case.path_parameters[name] = self.known[name]
        if "/device/v3/fleet/" in case.path:
            case.path_parameters["uuid"] = self.fleet.uuid
        if isinstance(case.body, dict):
            if case.path == "/device/v3/state":
                case.body = dict.fromkeys([self.device.uuid], *list(case.body.values())[:1])
            for name in set(case.body) & set(self.known):
                case.body[name] = self.known[name]


def service_of(path: str) -> str:
    return SERVICES.get(path) or path.split("/")[2]


@pytest.fixture(scope="module")
def world(shared_api: Api, make_fleet: Callable[[], Fleet]) -> World:
    fleet = make_fleet()
    device = fleet.register()
    fleet.release()
    running = fleet.start_release()
    known = {
        "uuid": device.uuid,
        "device_id": device.id,
        "deviceId": device.id,
        "application_id": fleet.id,
        "appId": fleet.id,
        "application": fleet.id,
        "actorTypeId": fleet.id,
        "user_id": fleet.application["belongs_to__user"]["__id"],
        "username": fleet.application["slug"].partition("/")[0],
        "release_id": running["release_id"],
        "provisioning": fleet.provisioning_key(),
    }
    return World(shared_api, fleet, device, known)


def _try(world: World, label: str, caller: str, examples: int) -> Counter[int]:
    operation = OPERATIONS[label]
    headers = world.headers(caller, operation.path)
    seen: Counter[int] = Counter()
    cases = st.one_of(
        operation.as_strategy(GenerationMode.POSITIVE),
        operation.as_strategy(GenerationMode.NEGATIVE),
    )

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), **SETTINGS)
    @given(cases, st.booleans())
    def check(case: Case, is_tied: bool) -> None:
        if is_tied and label not in STREAMS:
            world.tie(case)
        answer = case.call(world.api.url, world.session, headers, timeout=20)
        seen[answer.status_code] += 1
        checks = CHECKS if label in UNAVAILABLE else [not_a_server_error, *CHECKS]
        case.validate_response(answer, checks=checks)

    check()
    return seen


def _callers(label: str) -> list[str]:
    operation = OPERATIONS[label]
    schemes = {name for each in operation.definition.raw.get("security", ()) for name in each}
    if "service" in schemes:
        return ["nobody", "user", *([] if label in STREAMS else ["service"])]
    if label == "POST /device/register":
        return ["nobody", "user", "device", "provisioning"]
    return ["nobody", "user", "device"] if schemes else ["nobody"]


PAIRS = [(label, caller) for label in OPERATIONS for caller in _callers(label)]


@pytest.mark.parametrize(("label", "caller"), PAIRS)
def test_every_answer_is_in_the_document(world: World, label: str, caller: str) -> None:
    seen = _try(world, label, caller, FEW)
    if caller == "nobody" and OPERATIONS[label].definition.raw.get("security"):
        assert not {status for status in seen if status < 300} or "token" in label, seen


@pytest.mark.soak
@pytest.mark.parametrize(("label", "caller"), PAIRS)
def test_every_answer_of_many_is_in_the_document(world: World, label: str, caller: str) -> None:
    _try(world, label, caller, MANY)


def test_it_is_served(shared_api: Api) -> None:
    answer = shared_api.client().get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == interface().openapi()

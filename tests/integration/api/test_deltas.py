"""What the delta server is told: which pairs devices need, most devices first."""

import secrets
from typing import Any

from gantry.contracts.deltas import DeltaPair, WantedPairs

from .conftest import HOST, Fleet
from .test_supervisors import publish


class Releases:
    """Releases of several services, with images of their own digests."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def make(self, images: dict[str, str]) -> tuple[str, dict[str, str]]:
        """A release that succeeded: its commit, and its images by service."""
        begun = self.fleet.start_release(
            services=sorted(images),
            composition={"services": {each: {"build": "."} for each in images}},
        )
        done = self.fleet.api.service("builder").patch(
            f"/services/builder/releases/{begun['release_id']}",
            json={
                "status": "success",
                "images": [
                    {"image_id": each["image_id"], "digest": images[each["service"]]}
                    for each in begun["images"]
                ],
            },
        )
        assert done.status_code == 200, done.text
        return begun["commit"], {
            each["service"]: f"registry.{HOST}:8443/{each['repository']}@{images[each['service']]}"
            for each in begun["images"]
        }

    def run(self, commit: str, **more: Any) -> int:
        """A new device that runs a release; its id."""
        device = self.fleet.register(**more)
        release = {"release_uuid": commit, "releases": {commit: {"services": {}}}}
        body = {device.uuid: {"apps": {self.fleet.uuid: release}}}
        answer = device.client.patch("/device/v3/state", json=body)
        assert answer.status_code == 200, answer.text
        return device.id


def digest() -> str:
    return f"sha256:{secrets.token_hex(32)}"


def wanted(fleet: Fleet) -> list[tuple[DeltaPair, int]]:
    """What is wanted of this fleet's repositories."""
    told = fleet.api.service("deltas").get("/services/deltas/wanted")
    assert told.status_code == 200, told.text
    rows = fleet.user.get(
        f"/v7/image?$filter=is_a_build_of__service/any(s:s/application eq {fleet.id})"
        "&$select=is_stored_at__image_location"
    ).json()["d"]
    own = {each["is_stored_at__image_location"] for each in rows}
    return [
        (each.pair, each.devices)
        for each in WantedPairs.from_json(told.json()).pairs
        if each.pair.dest.partition("@")[0] in own
    ]


def test_nothing_is_wanted_of_a_fleet_at_its_target(fleet: Fleet) -> None:
    releases = Releases(fleet)
    commit, _ = releases.make({"main": digest()})
    releases.run(commit)
    fleet.register()
    assert wanted(fleet) == []


def test_most_devices_come_first(fleet: Fleet) -> None:
    releases = Releases(fleet)
    made = [releases.make({"main": digest()}) for _ in range(3)]
    for index, count in ((0, 1), (1, 2)):
        for _ in range(count):
            releases.run(made[index][0])
    (one, two, target) = (images["main"] for _, images in made)
    assert wanted(fleet) == [(DeltaPair((two,), target), 2), (DeltaPair((one,), target), 1)]


def test_the_services_own_image_first_and_what_is_unchanged_not(fleet: Fleet) -> None:
    releases = Releases(fleet)
    same = digest()
    before, old = releases.make({"alpha": digest(), "beta": same, "gamma": digest()})
    _, new = releases.make({"alpha": digest(), "beta": same, "gamma": digest(), "new": digest()})
    releases.run(before)
    alpha, beta, gamma = (old[each] for each in ("alpha", "beta", "gamma"))
    assert dict(wanted(fleet)) == {
        DeltaPair((alpha, beta, gamma), new["alpha"]): 1,
        DeltaPair((gamma, alpha, beta), new["gamma"]): 1,
        DeltaPair((alpha, beta, gamma), new["new"]): 1,
    }


def test_no_more_sources_than_a_device_names(fleet: Fleet) -> None:
    releases = Releases(fleet)
    names = [f"s{number}" for number in range(10)]
    before, old = releases.make({each: digest() for each in names})
    _, new = releases.make({each: digest() for each in names})
    releases.run(before)
    sources = {pair.dest: pair.src for pair, _ in wanted(fleet)}
    assert sources[new["s9"]] == tuple(old[each] for each in ("s9", *names[:7]))


def test_a_pin_counts_and_an_inactive_device_does_not(fleet: Fleet) -> None:
    releases = Releases(fleet)
    (first, one), (second, two) = (releases.make({"main": digest()}) for _ in range(2))
    pinned, inactive = releases.run(second), releases.run(first)
    rows = fleet.user.get(f"/v7/release?$filter=commit eq '{first}'&$select=id").json()["d"]
    body = {"is_pinned_on__release": rows[0]["id"]}
    assert fleet.user.patch(f"/v7/device({pinned})", json=body).status_code == 200
    got = fleet.user.patch(f"/v7/device({inactive})", json={"is_active": False})
    assert got.status_code == 200, got.text
    assert wanted(fleet) == [(DeltaPair((two["main"],), one["main"]), 1)]


def test_supervisors_are_wanted_too(fleet: Fleet) -> None:
    old, again, new, other = (digest() for _ in range(4))
    publish(fleet.api, "3.1.0", old)
    publish(fleet.api, "3.1.0", again)
    target = publish(fleet.api, "3.2.0", new)
    publish(fleet.api, "3.1.0", other, architecture="armv7hf", image="x/armv7hf-supervisor")
    for version in ("3.1.0", "3.1.0", "3.2.0", "3.0.0"):
        device = fleet.register()
        body: dict[str, Any] = {device.uuid: {"supervisor_version": version}}
        assert device.client.patch("/device/v3/state", json=body).status_code == 200
        pin = {"should_be_managed_by__release": target}
        assert fleet.user.patch(f"/v7/device({device.id})", json=pin).is_success
    told = fleet.api.service("deltas").get("/services/deltas/wanted").json()
    image = "registry.devbots.gantry.internal:8443/gantry/aarch64-supervisor"
    found = [
        (each.pair, each.devices)
        for each in WantedPairs.from_json(told).pairs
        if each.pair.dest == f"{image}@{new}"
    ]
    assert found == [(DeltaPair((f"{image}@{again}",), f"{image}@{new}"), 2)]

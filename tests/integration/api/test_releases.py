"""Releases: from the builder's first word to the fleet's target."""

import secrets

import httpx2 as httpx

from .conftest import Fleet


def target(fleet: Fleet) -> int | None:
    row = fleet.user.get(f"/v7/application({fleet.id})").json()["d"][0]
    found: dict[str, int] | None = row["should_be_running__release"]
    return found["__id"] if found else None


def test_a_release_runs_through(fleet: Fleet) -> None:
    made = fleet.start_release(services=["main", "web"], semver="1.2.0")
    assert [each["service"] for each in made["images"]] == ["main", "web"]
    assert target(fleet) is None
    url = f"/v7/release({made['release_id']})"
    assert fleet.user.get(url).json()["d"][0]["status"] == "running"
    assert fleet.finish_release(made).status_code == 200
    assert target(fleet) == made["release_id"]
    query = "?$select=status,build_log,raw_version,commit&$expand=release_image($expand=image)"
    row = fleet.user.get(url + query).json()["d"][0]
    assert (row["status"], row["build_log"], row["raw_version"]) == ("success", "built", "1.2.0")
    (image, _) = [each["image"][0] for each in row["release_image"]]
    assert (image["status"], image["image_size"]) == ("success", 1000)
    # Said twice it is said once.
    assert fleet.finish_release(made).status_code == 200
    assert fleet.finish_release(made, "failed").status_code == 409


def test_repositories_are_the_services_and_revisions_count(fleet: Fleet) -> None:
    first, second = fleet.release(), fleet.release()
    assert first["images"][0]["repository"] == second["images"][0]["repository"]
    assert first["images"][0]["image_id"] != second["images"][0]["image_id"]
    rows = fleet.user.get("/v7/release?$orderby=id&$select=raw_version").json()["d"]
    assert [each["raw_version"] for each in rows] == ["0.0.0", "0.0.0+rev1"]


def test_the_same_commit_again_is_the_same_release_and_the_target_again(fleet: Fleet) -> None:
    first = fleet.release()
    second = fleet.release()
    assert target(fleet) == second["release_id"]
    again = fleet.start_release(first["commit"])
    assert (again["already"], again["release_id"]) == (True, first["release_id"])
    assert again["images"] == first["images"]
    assert target(fleet) == first["release_id"]


def test_a_slow_build_does_not_undo_a_later_push(fleet: Fleet) -> None:
    slow, quick = fleet.start_release(), fleet.start_release()
    fleet.finish_release(quick)
    fleet.finish_release(slow)
    assert target(fleet) == quick["release_id"]


def test_a_commit_succeeds_once(fleet: Fleet) -> None:
    commit = secrets.token_hex(20)
    one, two = fleet.start_release(commit), fleet.start_release(commit)
    assert fleet.finish_release(one).status_code == 200
    refused = fleet.finish_release(two)
    assert (refused.status_code, "meanwhile" in refused.json()["error"]) == (409, True)
    assert fleet.finish_release(two, "failed").status_code == 200


def test_success_needs_every_digest(fleet: Fleet) -> None:
    made = fleet.start_release(services=["main", "web"])
    refused = fleet.finish_release({**made, "images": made["images"][:1]})
    assert refused.status_code == 400
    assert "no digest for web" in refused.json()["error"]
    other = fleet.start_release()
    assert fleet.finish_release({**made, "images": other["images"]}).status_code == 400


def test_recovering_fails_what_was_left(fleet: Fleet) -> None:
    builder = fleet.api.service("builder")
    made = fleet.start_release()
    foreign = fleet.start_release(builder="other")
    answer = builder.post("/services/builder/recover", json={"builder": "one"})
    assert made["release_id"] in answer.json()["failed"]
    assert foreign["release_id"] not in answer.json()["failed"]
    row = fleet.user.get(f"/v7/release({made['release_id']})").json()["d"][0]
    assert row["status"] == "failed"
    assert "push again" in row["error_message"]


def test_what_the_builder_may_not_say(fleet: Fleet) -> None:
    builder = fleet.api.service("builder")
    good = {
        "application_id": fleet.id,
        "user_id": fleet.application["belongs_to__user"]["__id"],
        "commit": "a" * 40,
        "composition": {},
        "services": ["main"],
    }

    def send(**change: object) -> httpx.Response:
        return builder.post("/services/builder/releases", json={**good, **change})

    assert send(commit="not hex").status_code == 400
    assert send(services=["no/slash"]).status_code == 400
    assert send(services=[]).status_code == 400
    assert send(application_id=10**9).status_code == 404
    assert send(unknown=1).status_code == 400
    assert fleet.user.post("/services/builder/releases", json=good).status_code == 401
    missing = builder.patch("/services/builder/releases/999999", json={"status": "failed"})
    assert missing.status_code == 404


def test_pins_and_targets_are_successes_of_the_fleet(fleet: Fleet) -> None:
    device = fleet.register()
    failed = fleet.start_release()
    fleet.finish_release(failed, "failed")
    good = fleet.release()
    for release in (failed["release_id"], 10**9):
        pin = {"is_pinned_on__release": release}
        assert fleet.user.patch(f"/v7/device({device.id})", json=pin).status_code == 400
        change = {"should_be_running__release": release}
        assert fleet.user.patch(f"/v7/application({fleet.id})", json=change).status_code == 400
    pin_fleet = {
        "should_track_latest_release": False,
        "should_be_running__release": good["release_id"],
    }
    assert fleet.user.patch(f"/v7/application({fleet.id})", json=pin_fleet).status_code == 200
    newer = fleet.release()
    assert target(fleet) == good["release_id"]
    track = {"should_track_latest_release": True}
    fleet.user.patch(f"/v7/application({fleet.id})", json=track)
    assert target(fleet) == newer["release_id"]
    refused = fleet.user.delete(f"/v7/release({newer['release_id']})")
    assert (refused.status_code, "set another one first" in refused.json()["error"]) == (409, True)
    assert fleet.user.delete(f"/v7/release({good['release_id']})").status_code == 200
    assert fleet.user.delete(f"/v7/application({fleet.id})").status_code == 200
    assert device.client.get(f"/device/v3/{device.uuid}/state").status_code == 401

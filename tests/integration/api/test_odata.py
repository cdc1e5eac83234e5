"""The resource model over HTTP, against PostgreSQL: what is served, and how wrong URLs end."""

from typing import Any

import pytest

from .conftest import Fleet


def rows(fleet: Fleet, path: str) -> list[dict[str, Any]]:
    answer = fleet.user.get(f"/v7/{path}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["d"]
    return found


@pytest.fixture
def three(fleet: Fleet) -> Fleet:
    for name in ("alpha", "beta", "it's gamma"):
        fleet.register(device_name=name)
    return fleet


@pytest.mark.parametrize(
    ("condition", "names"),
    [
        ("device_name eq 'alpha'", ["alpha"]),
        ("device_name ne 'alpha'", ["beta", "it's gamma"]),
        ("device_name eq 'it''s gamma'", ["it's gamma"]),
        ("device_name in ('alpha','beta')", ["alpha", "beta"]),
        ("device_name in ('beta')", ["beta"]),
        ("device_name in ( 'beta' ) or device_name in ('alpha')", ["alpha", "beta"]),
        ("startswith(device_name,'b')", ["beta"]),
        ("endswith(device_name,'a') and not contains(device_name,'mm')", ["alpha", "beta"]),
        ("toupper(device_name) eq 'BETA'", ["beta"]),
        ("length(device_name) gt 5", ["it's gamma"]),
        ("substring(device_name,1,2) eq 'et'", ["beta"]),
        ("substring(device_name,1) eq 'eta'", ["beta"]),
        ("concat(device_name,'!') eq 'beta!'", ["beta"]),
        ("indexof(device_name,'eta') eq 1", ["beta"]),
        ("is_online eq false", ["alpha", "beta", "it's gamma"]),
        ("not is_online", ["alpha", "beta", "it's gamma"]),
        ("is_running__release eq null", ["alpha", "beta", "it's gamma"]),
        ("note ne null", []),
        ("created_at lt now()", ["alpha", "beta", "it's gamma"]),
        ("created_at lt 2020-01-01T00:00:00Z", []),
        ("created_at gt '2020-01-01'", ["alpha", "beta", "it's gamma"]),
        ("is_of__device_type/slug eq 'raspberrypi3-64'", ["alpha", "beta", "it's gamma"]),
        ("is_of__device_type/is_of__cpu_architecture/slug eq 'rpi'", []),
        ("belongs_to__application/owns__release/any()", None),
        ("device_environment_variable/any(v:v/name eq 'A' and v/value eq '1')", ["alpha"]),
        ("not device_environment_variable/any()", ["beta", "it's gamma"]),
        ("device_environment_variable/all(v:v/value eq '2')", ["beta", "it's gamma"]),
        ("(device_name eq 'alpha' or device_name eq 'beta') and is_active", ["alpha", "beta"]),
    ],
)
def test_filters(shared_three: Fleet, condition: str, names: list[str] | None) -> None:
    answer = shared_three.user.get(
        "/v7/device",
        params={"$filter": condition, "$select": "device_name", "$orderby": "device_name"},
    )
    if names is None:
        assert answer.status_code == 400
    else:
        assert answer.status_code == 200, answer.text
        assert [each["device_name"] for each in answer.json()["d"]] == names


@pytest.mark.parametrize(
    "options",
    [
        "$filter=nothing eq 1",
        "$filter=id eq 'text'",
        "$filter=id eq 99999999999999999999",
        "$filter=device_name gt null",
        "$filter=device_name",
        "$filter=device_name eq",
        "$filter=(id eq 1",
        "$filter=id eq 1 1",
        "$filter=id ~ 1",
        "$filter=nofunction(id)",
        "$filter=length(id) eq 1",
        "$filter=year(created_at) eq 2024",
        "$filter=id add 1 eq 2",
        "$filter=belongs_to__application/nothing eq 1",
        "$filter=password_hash eq 'x'",
        "$filter=belongs_to__user/password_hash eq 'x'",
        "$filter=created_at gt 'yesterday'",
        "$filter=owns__device/any(d:d/id eq 1)",
        "$filter=" + "(" * 300 + "id eq 1" + ")" * 300,
        "$filter=" + "not " * 500 + "is_online",
        "$filter=" + "id eq 1 or " * 700 + "id eq 1",
        "$filter='%00' eq device_name",
        "$filter=",
        "$select=nothing",
        "$select=id,",
        "$expand=nothing",
        "$expand=image_install($expand=nothing)",
        "$expand=image_install($nothing=1)",
        "$expand=image_install(",
        "$expand=image_install)",
        "$expand=image_install,image_install",
        "$expand=image_install($filter=nothing eq 1)",
        "$orderby=nothing",
        "$orderby=id up",
        "$orderby=id;drop",
        "$top=-1",
        "$top=x",
        "$skip=1.5",
        "$count=maybe",
        "$search=x",
        "$top=1&$top=2",
    ],
)
def test_a_wrong_url_is_told_so(shared_three: Fleet, options: str) -> None:
    answer = shared_three.user.get(f"/v7/device?{options}")
    if options.startswith(("$filter=" + "(" * 300, "$filter=" + "id eq 1 or ")):
        # Brackets nest in the text alone; a long chain of `or` is deep in the tree.
        assert answer.status_code in (200, 400)
    else:
        assert answer.status_code == 400, answer.text
        assert "is not valid" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("device(uuid='nobody')", 404),
        ("device(999999)", 404),
        ("device(99999999999999999999)", 400),
        ("device(device_name='alpha')", 400),
        ("device(id='x')", 400),
        ("device(uuid=5)", 400),
        ("device()", 400),
        ("device(uuid='a", 404),
        ("nothing", 404),
        ("device/belongs_to__application", 404),
        ("actor", 404),
    ],
)
def test_paths(shared_three: Fleet, path: str, status: int) -> None:
    assert shared_three.user.get(f"/v7/{path}").status_code == status


def test_positions_are_named(shared_three: Fleet) -> None:
    answer = shared_three.user.get("/v7/device?$filter=is_online eq true and nothing eq 1")
    error = answer.json()["error"]
    assert error.startswith("$filter is not valid at position 22 ('nothing eq 1'): device has no")
    answer = shared_three.user.get("/v7/device?$filter=id eq eq")
    assert "at position" in answer.json()["error"]


def test_reading_by_key_choosing_and_expanding(three: Fleet) -> None:
    slug = three.application["slug"]
    (found,) = rows(
        three,
        f"application(slug='{slug}')?$select=app_name&$expand=owns__device("
        "$select=device_name;$orderby=device_name desc;$top=2;$filter=is_active eq true;"
        "$expand=is_of__device_type($select=slug;$expand=is_of__cpu_architecture($select=slug)))",
    )
    assert found == {
        "app_name": "testing",
        "owns__device": [
            {
                "device_name": name,
                "is_of__device_type": [
                    {
                        "slug": "raspberrypi3-64",
                        "is_of__cpu_architecture": [{"slug": "aarch64"}],
                    }
                ],
            }
            for name in ("it's gamma", "beta")
        ],
    }
    (plain,) = rows(three, f"application(slug='{slug}')")
    assert plain["should_be_running__release"] is None
    assert plain["is_for__device_type"].keys() == {"__id"}
    assert plain["created_at"].endswith("Z")
    assert rows(three, f"application(uuid='{three.uuid}')") == [plain]
    assert three.user.get(f"/v6/application({three.id})").json()["d"] == [plain]


def test_pages_orders_and_counts(three: Fleet) -> None:
    names = [each["device_name"] for each in rows(three, "device?$orderby=device_name&$top=2")]
    assert names == ["alpha", "beta"]
    names = [each["device_name"] for each in rows(three, "device?$orderby=device_name&$skip=2")]
    assert names == ["it's gamma"]
    ordered = rows(three, "device?$orderby=belongs_to__application/app_name,device_name desc")
    assert ordered[0]["device_name"] == "it's gamma"
    answer = three.user.get("/v7/device?$count=true&$top=1").json()
    assert (answer["@odata.count"], len(answer["d"])) == (3, 1)
    assert three.user.get("/v7/device/$count").json() == {"d": 3}
    assert three.user.get("/v7/device/$count?$filter=device_name eq 'beta'").json() == {"d": 1}
    assert rows(three, "device?$top=0") == []


def test_changes_by_key_and_by_filter(three: Fleet) -> None:
    user = three.user
    assert user.patch("/v7/device", json={"note": "x"}).status_code == 400
    by_filter = "/v7/device?$filter=startswith(device_name,'a')"
    assert user.patch(by_filter, json={"note": "noted"}).text == "OK"
    assert [each["note"] for each in rows(three, "device?$orderby=id")] == ["noted", None, None]
    refused = user.patch(by_filter, json={"uuid": "x"})
    assert (refused.status_code, "device_name" in refused.json()["error"]) == (400, True)
    assert user.patch("/v7/device(1)", json={"device_name": ""}).status_code in (400, 404)
    assert user.post("/v7/device", json={}).status_code == 405
    assert user.patch("/v7/image(1)", json={}).status_code == 404
    assert user.delete("/v7/device?$filter=device_name in ('alpha','beta')").text == "OK"
    assert [each["device_name"] for each in rows(three, "device")] == ["it's gamma"]
    assert user.post("/v7/device(1)", json={}).status_code == 400
    assert user.post("/v7/application", json=[1]).status_code == 400
    assert user.post("/v7/application", content=b"{").status_code == 400


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("OT_SMOOTHIE_ID", 201),
        ("_lower9", 201),
        ("RESINATE", 201),
        ("RESIN_HOST_CONFIG_gpu_mem", 201),
        ("BALENA_SUPERVISOR_DELTA", 201),
        ("RESIN_OVERRIDE_LOCK", 201),
        ("RESIN_APP_ID", 400),
        ("BALENA", 400),
        ("9LIVES", 400),
        ("WITH SPACE", 400),
        ("A=B", 400),
        ("NEWLINE\n", 400),
        ("", 400),
    ],
)
def test_names_of_variables(shared_three: Fleet, name: str, status: int) -> None:
    body = {"application": shared_three.id, "name": name, "value": "x"}
    answer = shared_three.user.post("/v7/application_environment_variable", json=body)
    assert answer.status_code == status, answer.text
    if status == 201:
        again = shared_three.user.post("/v7/application_environment_variable", json=body)
        assert (again.status_code, "already" in again.json()["error"]) == (409, True)
        shared_three.user.delete(f"/v7/application_environment_variable({answer.json()['id']})")


def test_configuration_variables_have_a_resource_of_their_own(fleet: Fleet) -> None:
    for name in ("PLAIN", "RESIN_HOST_CONFIG_x"):
        body = {"application": fleet.id, "name": name, "value": "1"}
        fleet.user.post("/v7/application_environment_variable", json=body)
    (only,) = rows(fleet, "application_config_variable")
    assert only["name"] == "RESIN_HOST_CONFIG_x"
    body = {"application": fleet.id, "name": "PLAIN2", "value": "1"}
    assert fleet.user.post("/v7/application_config_variable", json=body).status_code == 400
    change = {"value": "0"}
    url = f"/v7/application_config_variable({only['id']})"
    assert fleet.user.patch(url, json=change).status_code == 200
    assert fleet.user.patch(url, json={"name": "OTHER"}).status_code == 400


def test_applications_are_named_well(fleet: Fleet) -> None:
    def make(name: str, kind: object = "raspberrypi3-64") -> int:
        body = {"app_name": name, "is_for__device_type": kind}
        return fleet.user.post("/v7/application", json=body).status_code

    assert make("abc") == 400
    assert make("with space") == 400
    assert make("../etc") == 400
    assert make("fine") == 201
    assert make("fine") == 409
    assert make("FINE") == 409
    assert make("other", "toaster") == 400
    (kind,) = rows(fleet, "device_type(slug='intel-nuc')?$select=id")
    assert make("by-id", kind["id"]) == 201
    assert make("by-reference", {"__id": kind["id"]}) == 201
    rename = {"app_name": "Renamed"}
    assert fleet.user.patch(f"/v7/application({fleet.id})", json=rename).status_code == 200
    owner = fleet.application["slug"].split("/")[0]
    assert rows(fleet, f"application(slug='{owner}/renamed')")[0]["id"] == fleet.id


@pytest.mark.parametrize(
    "condition",
    [
        "belongs_to__application/" + "should_be_running__release/belongs_to__application/" * 150
        + "app_name eq 'x'",
        "a/" * 3000 + "a eq 1",
        "belongs_to__application/owns__device/any(e:e/id eq 1)",
        "device_environment_variable/any(v:v/device/device_environment_variable/any(w:w/id eq 1))",
    ],
)  # fmt: skip
def test_hostile_filters_are_refused(shared_three: Fleet, condition: str) -> None:
    answer = shared_three.user.get("/v7/device", params={"$filter": condition})
    assert answer.status_code == 400, answer.text
    assert "$filter is not valid" in answer.json()["error"]


@pytest.mark.parametrize("text", ["\\ud800", "\\u0000"])
def test_texts_that_cannot_be_stored_are_refused(fleet: Fleet, text: str) -> None:
    """As JSON spells them; the connection serves on."""
    number = fleet.user.get("/v7/application?$select=id&$top=1").json()["d"][0]["id"]
    for path, body in (
        ("/login_", f'{{"username": "admin", "password": "{text}"}}'),
        ("/api-key/user/full", f'{{"name": "{text}"}}'),
        (
            "/v7/application_environment_variable",
            f'{{"application": {number}, "name": "A", "value": "{text}"}}',
        ),
    ):
        answer = fleet.user.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == (401 if "0000" in text and "login" in path else 400), path

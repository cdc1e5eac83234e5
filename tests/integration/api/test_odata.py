"""The resource model over HTTP, against PostgreSQL: what is served, and how wrong URLs end."""

import csv
import json
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import httpx2 as httpx
import psycopg
import pytest
from sqlalchemy import Text, cast, create_engine, event, func, select, text
from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import BadRequestError
from gantry.api.odata.resources import RESOURCES
from gantry.api.queries import resources
from gantry.api.services.resources import Page, Resources

from .conftest import HOST, Fleet


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


ALL = ["alpha", "beta", "it's gamma"]


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
        ("is_online eq false", ALL),
        ("not is_online", ALL),
        ("is_running__release eq null", ALL),
        ("note ne null", []),
        ("created_at lt now()", ALL),
        ("created_at lt 2020-01-01T00:00:00Z", []),
        ("created_at gt '2020-01-01'", ALL),
        ("is_of__device_type/slug eq 'raspberrypi3-64'", ALL),
        ("is_of__device_type/is_of__cpu_architecture/slug eq 'rpi'", []),
        ("is_running__release/commit eq 'x'", []),
        ("is_running__release/commit eq null", ALL),
        ("is_running__release/commit ne null", []),
        ("is_running__release/commit ne 'x'", ALL),
        ("not (is_running__release/commit ne 'x')", []),
        ("not (is_running__release/commit eq 'x')", ALL),
        ("not (is_running__release/commit lt 'x')", ALL),
        ("not (is_running__release/commit in ('x','y'))", ALL),
        ("is_running__release/belongs_to__application/app_name eq null", ALL),
        ("belongs_to__application/organization/handle ne null", ALL),
        ("not (belongs_to__application/should_be_running__release/commit ne 'x')", []),
        ("belongs_to__application/app_name in ('testing','x')", ALL),
        (
            "belongs_to__application/owns__device/any(is_for:is_for/belongs_to__application/"
            "app_name eq 'testing' and is_for/device_name eq 'beta')",
            ALL,
        ),
        # A variable with the name of a field hides it here, and not behind a navigation.
        (
            "device_environment_variable/any(slug:slug/device/is_of__device_type/slug eq "
            "'raspberrypi3-64')",
            ["alpha"],
        ),
        ("not (note eq 'x')", ALL),
        ("(note eq 'x') eq false", ALL),
        ("not (note in ('x',null))", []),
        ("note in ('x',null)", ALL),
        ("null eq null and not (null ne null)", ALL),
        ("belongs_to__application/owns__release/any()", []),
        ("belongs_to__application/owns__device/any(e:e/device_name eq 'beta')", ALL),
        ("belongs_to__application/owns__device/all(e:e/device_name eq 'beta')", []),
        ("is_running__release/image_install/any()", []),
        ("not is_running__release/image_install/any()", ALL),
        ("is_running__release/image_install/all(i:i/id eq 0)", ALL),
        (
            "belongs_to__application/owns__device/any(e:e/device_environment_variable/any("
            "v:v/value eq '1' and e/device_name eq $it/device_name))",
            ["alpha"],
        ),
        ("device_environment_variable/any(v:v/name eq 'A' and device_name eq 'alpha')", ["alpha"]),
        ("device_environment_variable/$count eq 1", ["alpha"]),
        ("device_environment_variable/$count($filter=value eq '2') eq 0", ALL),
        ("belongs_to__application/owns__device/$count ge 3", ALL),
        ("is_running__release/image_install/$count eq null", ALL),
        ("is_of__device_type/any(t:startswith(t/slug,'raspberrypi'))", ALL),
        ("2 add 3 mul 2 eq 8 and 7 mod 4 eq 3 and 7 div 2 eq 3", ALL),
        ("7 divby 2 eq 3.5 and 7.0 div 2 eq 3.5 and -(3) eq -3 and - 3 eq 0 sub 3", ALL),
        ("1 div 0 eq null and 9223372036854775807 mul 9223372036854775807 gt 0", ALL),
        ("id add 0 eq id and id sub id eq 0", ALL),
        ("round(2.5) eq 3 and round(-2.5) eq -3 and floor(2.5) eq 2 and ceiling(2.5) eq 3", ALL),
        ("year(created_at) ge 2024 and month(created_at) in (1,2,3,4,5,6,7,8,9,10,11,12)", ALL),
        ("year(2024-05-31) eq 2024 and day(2024-05-31) eq 31", ALL),
        ("hour(2024-05-31T23:59:58.25+02:00) eq 21", ALL),
        ("minute(23:59:58) eq 59 and second(23:59:58.9) eq 58", ALL),
        ("fractionalseconds(23:59:58.25) eq 0.25", ALL),
        ("date(2024-05-31T23:30:00-02:00) eq 2024-06-01", ALL),
        ("date(created_at) le date(now()) and time(12:00:00Z) eq 1", None),
        ("time(2024-05-31T12:30:00Z) eq 12:30", ALL),
        ("created_at gt 2024-05-31 and date(created_at) gt '2024-05-31'", ALL),
        ("created_at gt now() sub duration'P1D'", ALL),
        ("created_at add duration'PT1H' lt now() sub duration'PT1H'", []),
        ("now() sub created_at lt duration'P1D' and totalseconds(duration'PT1M') eq 60", ALL),
        ("mindatetime() lt now() and now() lt maxdatetime()", ALL),
        ("totaloffsetminutes(created_at) eq 0", ALL),
        ("created_at gt datetime'2024-05-31T12:00:00.7Z'", ALL),
        ("belongs_to__application in (@none,-1)", []),
        ("device_name eq @name", ["beta"]),
        ("device_environment_variable/any(v:v/name eq 'A' and v/value eq '1')", ["alpha"]),
        ("not device_environment_variable/any()", ["beta", "it's gamma"]),
        ("device_environment_variable/all(v:v/value eq '2')", ["beta", "it's gamma"]),
        ("(device_name eq 'alpha' or device_name eq 'beta') and is_active", ["alpha", "beta"]),
    ],
)
def test_filters(shared_three: Fleet, condition: str, names: list[str] | None) -> None:
    answer = shared_three.user.get(
        "/v7/device",
        params={
            "$filter": condition,
            "$select": "device_name",
            "$orderby": "device_name",
            "@name": "'beta'",
            "@none": "0",
        },
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
        "$filter=year(device_name) eq 2024",
        "$filter=id add device_name eq 2",
        "$filter=created_at add 1 eq 2",
        "$filter=-device_name eq 2",
        "$filter=null add 1 eq 2",
        "$filter=null in (1,2)",
        "$filter=contains(device_name,null)",
        "$filter=device_name in (2024-05-31)",
        "$filter=created_at in (device_name)",
        "$filter=created_at eq device_name",
        "$filter=owns__device/uuid eq 'x'",
        "$filter=device_tag/value eq 'x'",
        "$filter=device_tag/any(t:t eq 5)",
        "$filter=device_tag/any(t:value eq 'x')",
        "$filter=device_tag/$count($filter=nothing eq 1) eq 0",
        "$filter=belongs_to__application/$count($top=1) eq 1",
        "$filter=not device_name eq 'x'",
        "$filter=$it eq 5",
        "$filter=device_name eq @unheard",
        "$filter=device_name eq @x&@x=a b",
        "$filter=round('x') eq 1",
        "$filter=now(1) eq null",
        "$filter=belongs_to__application/nothing eq 1",
        "$filter=password_hash eq 'x'",
        "$filter=belongs_to__user/password_hash eq 'x'",
        "$filter=created_at gt 'yesterday'",
        "$filter=owns__device/any(d:d/id eq 1)",
        "$filter=" + "(" * 300 + "id eq 1" + ")" * 300,
        "$filter=" + "not " * 500 + "is_online",
        "$filter=" + "id eq 1 or " * 1000 + "id eq 1",
        "$filter=" + "id add " * 100 + "1 eq 1",
        "$filter=" + "is_of__device_type/id eq 1 or " * 201 + "is_online",
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
        "$expand=image_install/$count($filter=nothing eq 1)",
        "$expand=image_install($orderby=nothing)",
        "$expand=image_install($select=nothing)",
        "$orderby=null",
        "$orderby=image_install/id",
        "$orderby=belongs_to__application/nothing",
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
    assert answer.status_code == 400, answer.text
    assert "is not valid at" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("device(99999999999999999999)", 400),
        ("device(device_name='alpha')", 400),
        ("device(id='x')", 400),
        ("device(uuid=5)", 400),
        ("device()", 400),
        ("device(uuid='a", 400),
        ("device(@id)", 400),
        ("nothing", 404),
        ("device/belongs_to__application", 404),
        ("actors", 404),
    ],
)
def test_paths(shared_three: Fleet, path: str, status: int) -> None:
    assert shared_three.user.get(f"/v7/{path}").status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "device(uuid='nobody')",
        "device(999999)",
        "device(@id)?@id=999999",
        "device_tag(device=1,tag_key='none')",
    ],
)
def test_a_key_of_nothing_reads_as_no_rows(shared_three: Fleet, path: str) -> None:
    # The family's clients take the empty list for "there is none".
    answer = shared_three.user.get(f"/v7/{path}")
    assert (answer.status_code, answer.json()) == (200, {"d": []})


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
    answer = three.user.get("/v7/device?$count=true&$skip=5").json()
    assert answer == {"d": [], "@odata.count": 3}
    number = rows(three, "device?$filter=device_name eq 'beta'")[0]["id"]
    for path in (f"device/$count({number})", f"device({number})/$count"):
        assert three.user.get(f"/v7/{path}").json() == {"d": 1}


def test_orders(three: Fleet) -> None:
    def ordered(by: str) -> list[str]:
        return [each["device_name"] for each in rows(three, f"device?$orderby={by}")]

    ids = {each["device_name"]: each["id"] for each in rows(three, "device")}
    three.user.patch(f"/v7/device({ids['beta']})", json={"note": "x"})
    tag = {"device": ids["it's gamma"], "tag_key": "a", "value": "1"}
    assert three.user.post("/v7/device_tag", json=tag).status_code == 201
    assert ordered("note,device_name") == ["alpha", "it's gamma", "beta"]
    assert ordered("note desc,device_name") == ["beta", "alpha", "it's gamma"]
    assert ordered("device_tag/$count desc,device_name") == ["it's gamma", "alpha", "beta"]
    assert ordered("device_tag/$count($filter=tag_key eq 'b') desc,device_name") == ALL
    assert ordered("length(device_name) desc") == ["it's gamma", "alpha", "beta"]
    assert ordered("device_tag/any(),device_name DESC") == ["beta", "alpha", "it's gamma"]


def test_counts_in_expansions(three: Fleet) -> None:
    (found,) = rows(
        three,
        f"application({three.id})?$select=id&$expand=owns__device("
        "$select=device_name;$orderby=device_name;$skip=1;$top=1;$count=true;"
        "$filter=device_name ne 'alpha';$expand=device_tag/$count),"
        "owns__release/$count,application_environment_variable/$count($filter=name eq 'A')",
    )
    assert found == {
        "id": three.id,
        "owns__device": [{"device_name": "it's gamma", "device_tag": 0}],
        "owns__device@odata.count": 2,
        "owns__release": 0,
        "application_environment_variable": 0,
    }


def test_put_changes_or_makes(three: Fleet) -> None:
    user = three.user
    device = rows(three, "device?$orderby=id")[0]["id"]
    by_key = f"/v7/device_tag(device={device},tag_key='bench')"
    made = user.put(by_key, json={"value": "1"})
    assert (made.status_code, made.json()["value"]) == (201, "1")
    assert user.put(by_key, json={"value": "2", "device": {"__id": device}}).text == "OK"
    assert [each["value"] for each in rows(three, "device_tag")] == ["2"]
    assert user.put(f"/v7/device_tag({made.json()['id']})", json={"value": "3"}).text == "OK"
    assert [each["value"] for each in rows(three, "device_tag")] == ["3"]
    assert user.put(by_key, json={"value": "2", "tag_key": "other"}).status_code == 400
    assert user.put("/v7/device_tag", json={"value": "2"}).status_code == 400
    assert user.put("/v7/device_tag(999999)", json={"value": "2"}).status_code == 404
    assert user.put("/v7/device(uuid='none')", json={"note": "2"}).status_code == 405
    assert user.put("/v7/image(999999)", json={}).status_code == 404


def test_what_is_made_is_returned_as_asked(fleet: Fleet) -> None:
    body = {"application": fleet.id, "name": "A", "value": "1"}
    path = "/v7/application_environment_variable"
    made = fleet.user.post(f"{path}?returnResource=false", json=body)
    assert (made.status_code, made.json().keys()) == (201, {"id"})
    again = fleet.user.post(path, json=body)
    # The word by which the family's clients know that they must change what is there.
    assert (again.status_code, "unique" in again.json()["error"]) == (409, True)
    chosen = "$select=name&$expand=application($select=app_name)"
    made = fleet.user.post(f"{path}?{chosen}", json=body | {"name": "B"})
    assert made.json() == {"name": "B", "application": [{"app_name": "testing"}]}
    refused = fleet.user.post(f"{path}?$select=nothing", json=body | {"name": "C"})
    assert refused.status_code == 400
    assert len(rows(fleet, "application_environment_variable")) == 2


@pytest.mark.parametrize("option", ["$top=1", "$orderby=id", "$select=id", "$expand=device_tag"])
def test_changes_do_not_pass_over_options(shared_three: Fleet, option: str) -> None:
    path = f"/v7/device?$filter=id eq 0&{option}"
    for answer in (shared_three.user.delete(path), shared_three.user.patch(path, json={})):
        assert answer.status_code == 400
        assert option.partition("=")[0] in answer.json()["error"]


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
        "device_tag/any(a:a/device/device_tag/any(b:b/device/device_tag/any("
        "c:c/device/device_tag/any(d:d/id eq 1))))",
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


@pytest.fixture
def tagged(fleet: Fleet) -> Fleet:
    """A device with 2,100 tags, more than two pages of them."""
    number = fleet.register().id
    url = fleet.api.config["database_url"].replace("postgresql+psycopg://", "postgresql://")
    with psycopg.connect(url) as connection:
        connection.execute(
            "insert into device_tag (device, tag_key, value) "
            "select %s, 'key' || n, n::text from generate_series(1, 2100) n",
            (number,),
        )
    return fleet


def test_pages_follow_each_other(tagged: Fleet) -> None:
    def walk(options: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        answer = tagged.user.get(f"/v7/device_tag?$select=value&{options}", headers=headers)
        yield answer
        following = answer.json().get("@odata.nextLink") if "json" in str(answer.headers) else None
        following = following or answer.links.get("next", {}).get("url")
        if following:
            assert following.startswith(f"https://api.{HOST}:8443/v7/device_tag?")
            yield from walk(following.partition("&")[2], headers)

    def values(options: str) -> list[str]:
        pages = [each.json()["d"] for each in walk(options, {})]
        assert [len(each) for each in pages[:-1]] == [1000] * (len(pages) - 1)
        return [row["value"] for page in pages for row in page]

    whole = [str(number) for number in range(1, 2101)]
    assert values("$orderby=id") == whole
    assert values("$orderby=id&$skip=50") == whole[50:]
    assert values("$orderby=id&$Top=1500&$SKIP=50") == whole[50:1550]
    assert values("$orderby=id&$top=1000") == whole[:1000]
    tables = [each.text.split("\r\n") for each in walk("$orderby=id", {"Accept": "text/csv"})]
    assert {each[0] for each in tables} == {"value"}
    assert [line for each in tables for line in each[1:-1]] == whole
    answer = tagged.user.get("/v7/device?$expand=device_tag($select=value)&$select=id").json()
    assert len(answer["d"][0]["device_tag"]) == 1000


def test_csv(three: Fleet) -> None:
    chosen = "$select=device_name,belongs_to__application,is_online,note&$expand=device_tag/$count"
    answer = three.user.get(f"/v7/device?{chosen}&$orderby=device_name&$format=csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.text.split("\r\n") == [
        "device_name,belongs_to__application,is_online,note,device_tag",
        *(f"{name},{three.id},false,,0" for name in ALL),
        "",
    ]
    tag = {"device": rows(three, "device")[0]["id"], "tag_key": "a", "value": 'say "é, ü"'}
    three.user.post("/v7/device_tag", json=tag)
    answer = three.user.get(
        "/v7/device?$select=id&$filter=device_tag/any()&$expand=device_tag($select=value)",
        headers={"Accept": "text/csv"},
    )
    (line,) = csv.DictReader(answer.text.splitlines())
    assert json.loads(line["device_tag"]) == [{"value": 'say "é, ü"'}]
    empty = three.user.get("/v7/device?$select=id,uuid&$top=0&$format=csv")
    assert empty.text == "id,uuid\r\n"
    for path in ("device?$format=csv&$count=true", "device?$format=csv&$select=nothing"):
        assert three.user.get(f"/v7/{path}").status_code == 400
    as_json = three.user.get("/v7/device?$format=json&$top=0", headers={"Accept": "text/csv"})
    assert as_json.json() == {"d": []}


def test_the_model_describes_itself(shared_three: Fleet) -> None:
    answer = shared_three.user.get("/v7/$metadata")
    assert answer.headers["content-type"] == "application/xml"
    edm = "{http://docs.oasis-open.org/odata/ns/edm}"
    root = ElementTree.fromstring(answer.content)  # noqa: S314 - our own server's
    types = {each.get("Name"): each for each in root.iter(f"{edm}EntityType")}
    sets = {each.get("Name") for each in root.iter(f"{edm}EntitySet")}
    assert sets == types.keys() == RESOURCES.keys()
    for name, entity in types.items():
        whole = rows(shared_three, f"{name}?$top=1")
        described = {
            each.get("Name")
            for each in entity
            if each.tag in (f"{edm}Property", f"{edm}NavigationProperty")
        }
        for row in whole:
            assert row.keys() <= described
        for each in entity.iter(f"{edm}NavigationProperty"):
            kind = str(each.get("Type")).removeprefix("Collection(").rstrip(")")
            assert kind.removeprefix("gantry.") in types
    device = {each.get("Name"): each for each in types["device"] if each.get("Name")}
    assert device["uuid"].attrib == {"Name": "uuid", "Type": "Edm.String", "Nullable": "false"}
    assert device["device_tag"].get("Type") == "Collection(gantry.device_tag)"
    assert device["belongs_to__application"].get("Type") == "gantry.application"
    assert "password_hash" not in answer.text
    assert shared_three.api.client().get("/v7/$metadata").status_code == 401


def test_a_statement_that_takes_too_long_is_the_callers_fault(database_url: str) -> None:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with Session(engine) as session:
        session.execute(text("set statement_timeout = 100"))
        with pytest.raises(BadRequestError, match=r"longer than 20 s: narrow its \$filter"):
            resources.numbers(session, select(func.length(cast(func.pg_sleep(60), Text))))
    engine.dispose()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("device?$filter=(device_name eq 'alpha') or (device_name eq 'beta')", 2),
        ("device?$filter=(is_online eq false) and (not(device_name eq 'alpha'))", 2),
        ("device?$filter=belongs_to__application/any(a:endswith(a/slug,'/testing'))", 3),
        ("device?$filter=device_name%20in%20('alpha'%2C%20'beta')&$orderby=created_at%20desc", 2),
        ("device?$filter=created_at%20lt%20datetime'2100-01-01T00%3A00%3A00.5Z'", 3),
        ("device?$filter=(device_tag/$count($filter=id gt 0) eq 0)", 3),
        ("device?$filter=device_tag/$count%20eq%200", 3),
        ("device?$orderby=device_tag/$count%20desc&$top=2&$skip=0", 2),
        ("device?$filter=startswith(tolower(device_name),'b')", 1),
        ("device?$expand=belongs_to__application($expand=owns__device($select=id)),device_tag", 3),
    ],
)  # fmt: skip
def test_what_the_familys_clients_write(shared_three: Fleet, path: str, expected: int) -> None:
    """In the form of pine-client 0.2.0: brackets around each part, encoded or not."""
    assert len(rows(shared_three, path)) == expected


def test_a_read_is_one_statement_with_bound_values(three: Fleet) -> None:
    url = three.api.config["database_url"]
    owner = rows(three, f"application({three.id})")[0]["belongs_to__user"]["__id"]
    engine = create_engine(url)
    sent: list[tuple[str, dict[str, Any]]] = []
    event.listen(engine, "before_cursor_execute", lambda *each: sent.append((each[2], each[3])))
    options = [
        ("$filter", "device_name ne 'it''s beta' and device_tag/$count lt 1234567"),
        ("$expand", "belongs_to__application($expand=owns__device($count=true;$top=4321))"),
        ("$orderby", "belongs_to__application/app_name"),
        ("$count", "true"),
    ]
    with Session(engine) as session:
        actor = UserActor(0, owner, "x", None, is_administrator=False)
        # What a new connection asks for itself is not counted.
        session.connection()
        sent.clear()
        page = Resources(session, actor).read("device", options)
    engine.dispose()
    assert isinstance(page, Page)
    assert (len(page.rows), page.count) == (3, 3)
    ((statement, values),) = sent
    for value in ("it's beta", 1234567):
        assert value in values.values()
        assert str(value) not in statement

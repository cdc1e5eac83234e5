"""The OpenAPI document: made of the routes, without a database, and of all of them."""

import json
import subprocess
import sys
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from gantry.api import openapi
from gantry.api.app import interface

# `$metadata` describes these. All else is to be in the document.
ODATA = {f"/{version}/{{path}}" for version in ("v6", "v7")}
# The family's two ways to write the same; the document has the one that balena's clients send.
WITHOUT_SLASH = {("POST", "/api-key/v1"), ("POST", "/api-key/v2")}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return interface().openapi()


def operations(document: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_route_is_in_it_or_of_odata(document: dict[str, Any]) -> None:
    described = set(operations(document))
    served = {
        (method, route.path_format or route.path)
        for route in iter_route_contexts(interface().routes)
        for method in route.methods or ()
    }
    odata = {(method, path) for method, path in served if path in ODATA}
    assert {method for method, _ in odata} == {"GET", "POST", "PUT", "PATCH", "DELETE"}
    own = {("GET", openapi.PATH), ("HEAD", openapi.PATH)}
    assert served - odata - own - WITHOUT_SLASH == described


def test_the_command_prints_it(document: dict[str, Any]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "gantry.api", "openapi"], capture_output=True, check=True
    )
    assert json.loads(run.stdout) == document
    assert run.stderr == b""


def test_each_operation_says_what_it_is_and_how_it_fails(document: dict[str, Any]) -> None:
    tags = {each["name"] for each in document["tags"]}
    for name, operation in operations(document).items():
        assert operation["description"].endswith("."), name
        assert set(operation["tags"]) < tags, name
        assert "422" not in operation["responses"], name
        for status, answer in operation["responses"].items():
            # `default` is what a device says, in its own words.
            if status >= "400" and status != "default":
                assert set(answer["content"]) == {"application/json"}, name
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/Failure"}, name
    assert document["externalDocs"]["url"] == "/v7/$metadata"


def test_all_that_is_named_is_there(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    for kind in ("schemas", "securitySchemes"):
        for name in document["components"][kind]:
            named = f'"#/components/schemas/{name}"' if kind == "schemas" else f'"{name}": []'
            assert named in text, name
    for operation in operations(document).values():
        for each in operation.get("security", ()):
            assert set(each) <= set(document["components"]["securitySchemes"])


@pytest.mark.parametrize(
    ("operation", "schemes"),
    [
        (("POST", "/login_"), None),
        (("GET", "/ping"), None),
        (("GET", "/user/v1/whoami"), [{"session": []}, {"key": []}, {"keyInQuery": []}]),
        (("POST", "/api-key/user/full"), [{"session": []}]),
        (("POST", "/auth/totp/verify"), [{"session": []}]),
        (("GET", "/auth/v1/token"), [{"registry": []}, {}]),
        (("POST", "/services/git/authorize"), [{"service": []}]),
    ],
)
def test_credentials(
    document: dict[str, Any], operation: tuple[str, str], schemes: list[dict[str, Any]] | None
) -> None:
    found = operations(document)[operation]
    assert found.get("security") == schemes
    assert ("401" in found["responses"]) == (schemes is not None or operation[1] == "/login_")

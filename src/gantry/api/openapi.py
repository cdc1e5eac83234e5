"""The OpenAPI document (version 3.1), made of the routes themselves.

FastAPI tells paths, parameters and bodies; what all routes of a kind have in common is added here:
the credentials that they take, and what they may fail with. OData's part is described by
`/v7/$metadata`, which is among the paths.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts

from gantry import __version__
from gantry.api.context import is_narrow, wanted
from gantry.api.routes.answers import Failure, failure

PATH = "/openapi.json"
_DESCRIPTION = (
    "The api of a Gantry fleet. The resources under `/v7/` and `/v6/` speak OData: "
    "`/v7/$metadata` describes them, and docs/api.md."
)
_METADATA = {"description": "CSDL (OData 4.01)", "url": "/v7/$metadata"}
_TAGS: list[dict[str, Any]] = [
    {"name": "accounts", "description": "Logging in, passwords, the second factor."},
    {"name": "keys", "description": "New API keys. Each is shown once."},
    {"name": "devices", "description": "What devices call, and what is asked of them."},
    {"name": "fleet", "description": "Health, and what the fleet offers."},
    {"name": "registry", "description": "Tokens for the registry, keys for the git server."},
    {"name": "services", "description": "For the fleet's own services; the proxy hides it."},
    {
        "name": "resources",
        "description": "The resource model's OData is described by `/v7/$metadata`.",
        "externalDocs": _METADATA,
    },
]
_BEARER = {"type": "http", "scheme": "bearer"}
_SCHEMES = {
    "session": {**_BEARER, "bearerFormat": "JWT", "description": "A session token of `/login_`."},
    "key": {**_BEARER, "description": "An API key of a user, a device or an application."},
    "keyInQuery": {"type": "apiKey", "in": "query", "name": "apikey", "description": "The same."},
    "service": {**_BEARER, "description": "The key of one of the fleet's own services."},
    "registry": {"type": "http", "scheme": "basic", "description": "A name and its credential."},
}
# Any of the named schemes will do.
_SECURITY = {
    "actor": ("session", "key", "keyInQuery"),
    "session": ("session",),
    "service": ("service",),
}


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an application's routes; it is made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=__version__,
            description=_DESCRIPTION,
            routes=app.routes,
        )
        # Not by FastAPI, which takes no reference that is relative; OpenAPI does (4.6).
        made |= {"tags": _TAGS, "externalDocs": _METADATA}
        made["components"]["securitySchemes"] = _SCHEMES
        schemas = made["components"]["schemas"]
        schemas[Failure.__name__] = Failure.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for route, operation in _operations(app, made["paths"]):
            _complete(route, operation)
        app.openapi_schema = made
    return app.openapi_schema


def _operations(
    app: FastAPI, paths: dict[str, Any]
) -> Iterator[tuple[RouteContext, dict[str, Any]]]:
    for route in iter_route_contexts(app.routes):
        if isinstance(route.original_route, APIRoute) and route.include_in_schema:
            for method in route.methods or ():
                yield route, paths[str(route.path_format)][method.lower()]


def _complete(route: RouteContext, operation: dict[str, Any]) -> None:
    calls = list(_calls(route.dependant))
    credentials = [kind for kind in map(wanted, calls) if kind is not None]
    responses = operation["responses"]
    # FastAPI's own answer to a wrong request: here it is 400.
    has_input = responses.pop("422", None) is not None or "requestBody" in operation
    if credentials:
        operation["security"] = [{each: []} for each in _SECURITY[credentials[0]]]
    common = {
        400: has_input,
        401: bool(credentials),
        403: any(map(is_narrow, calls)),
        413: "requestBody" in operation,
        # What does not wait for the database has neither a credential nor a thread.
        503: bool(credentials) or not inspect.iscoroutinefunction(route.endpoint),
    }
    for status, applies in common.items():
        if applies:
            responses.setdefault(str(status), failure(status))
    operation["responses"] = dict(sorted(responses.items()))


def _calls(dependant: Dependant) -> Iterator[object]:
    for each in dependant.dependencies:
        yield each.call
        yield from _calls(each)

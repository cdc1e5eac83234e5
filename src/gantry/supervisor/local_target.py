"""A local target: what a developer's machine wants the device to run, over HTTP. Pure.

The form is the family's version 2 of a target, which its CLI sends (`POST /v2/local/target-state`):
`{"local": {"name", "config", "apps": {<app id>: {"name", "commit", "releaseId", "services":
{<service id>: {"serviceName", "imageId", "image", "environment", "labels", "running", and the
fields of docker-compose.yml}}, "volumes", "networks"}}}}`. An application in the form of version 3
(with `releases`) is taken as well. Local applications have their id as uuid.
"""

from collections.abc import Collection, Mapping
from typing import Any

from gantry.supervisor import wire
from gantry.supervisor.target import TargetApp, TargetService, TargetState, read_target

# Ids of fleets on this device are not a local application's: volumes are named by them.
_ID_OFFSET = 1_000_000_000
_OWN_FIELDS = frozenset(
    ("serviceName", "serviceId", "imageId", "image", "environment", "labels", "running", "contract")
)


def read_local(document: Mapping[str, Any], taken: Collection[int]) -> TargetState:
    """The local target in a request's body. `taken` are ids of the fleet's applications: a local
    one with such an id gets another.

    Raises:
        wire.WireError: it is no target state; says where and what.
    """
    if "local" not in document:
        raise wire.WireError('the body has no "local": send {"local": {"apps": …}}')
    local = wire.mapping(document["local"], "local")
    apps: dict[str, Any] = {}
    for key, value in wire.mapping(local.get("apps"), "local: apps").items():
        app = wire.mapping(value, f"app {key}")
        number = wire.number(app.get("id", key), f"app {key}: id")
        whole = app if "releases" in app else _newer_form(key, app)
        apps[str(key)] = {**whole, "id": number + _ID_OFFSET if number in taken else number}
    return read_target({"local": {**local, "apps": apps}}, "local")


def _newer_form(key: str, app: Mapping[str, Any]) -> dict[str, Any]:
    """An application of version 2 in the form of version 3."""
    found: dict[str, Any] = {"name": app.get("name"), "releases": {}}
    if app.get("commit"):
        services = wire.mapping(app.get("services"), f"app {key}: services")
        found["releases"][wire.text(app["commit"], f"app {key}: commit")] = {
            "id": app.get("releaseId", 1),
            "services": dict(_service(each, services[each]) for each in services),
            "volumes": app.get("volumes"),
            "networks": app.get("networks"),
        }
    return found


def _service(key: str, value: object) -> tuple[str, dict[str, Any]]:
    service = wire.mapping(value, f"service {key}")
    name = wire.text(service.get("serviceName"), f"service {key}: serviceName")
    return name, {
        "id": service.get("serviceId", key),
        "image_id": service.get("imageId"),
        "image": service.get("image"),
        "environment": service.get("environment"),
        "labels": service.get("labels"),
        "running": service.get("running"),
        "composition": {field: service[field] for field in service if field not in _OWN_FIELDS},
        "contract": service.get("contract"),
    }


def local_document(target: TargetState) -> dict[str, Any]:
    """A target as the body of `GET /v2/local/target-state` shows it; `read_local` reads it."""
    return {
        "local": {
            "name": target.name,
            "config": dict(target.config),
            "apps": {str(app.id): _app_document(app) for app in target.apps},
        }
    }


def _app_document(app: TargetApp) -> dict[str, Any]:
    release = app.release
    if release is None:
        return {"name": app.name, "services": {}, "volumes": {}, "networks": {}}
    return {
        "name": app.name,
        "commit": release.commit,
        "releaseId": release.id,
        "services": {str(each.id): _service_document(each) for each in release.services},
        "volumes": dict(release.volumes),
        "networks": dict(release.networks),
    }


def _service_document(service: TargetService) -> dict[str, Any]:
    return {
        **service.composition,
        "serviceName": service.name,
        "serviceId": service.id,
        "imageId": service.image_id,
        "image": service.image,
        "environment": dict(service.environment),
        "labels": dict(service.labels),
        "running": service.running,
        **({"contract": service.contract} if service.contract else {}),
    }


def images_of(target: TargetState) -> frozenset[str]:
    """Every image that a target names."""
    return frozenset(
        service.image
        for app in target.apps
        if app.release is not None
        for service in app.release.services
    )

"""Preloading: `apps.json` beside the images that came with the card. Its forms, read. Pure.

Three forms of the family are known: a list of applications with one image each (its supervisors of
before 2018), applications by number (version 2 of the target state), and applications by uuid
(version 3). What comes of each is a target of version 3.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.supervisor import wire
from gantry.supervisor.target import read_target

_NAMED_ELSEWHERE = frozenset(
    {"imageId", "serviceName", "serviceId", "image", "environment", "labels", "running", "contract"}
)


@dataclass(frozen=True, slots=True)
class Pin:
    """The release that the device is to be pinned to at its api; `release` is its number there."""

    app: int
    release: int
    commit: str


@dataclass(frozen=True, slots=True)
class Preloaded:
    """What came with the card. `left_out` are numbers of applications of other fleets."""

    apps: Mapping[str, Any]
    config: Mapping[str, str]
    pin: Pin | None
    left_out: tuple[int, ...] = ()

    def target(self, uuid: str) -> dict[str, Any]:
        """As a target of the device with this uuid."""
        return {uuid: {"name": "", "config": dict(self.config), "apps": dict(self.apps)}}


def read_apps_json(content: bytes, fleet_id: int | None) -> Preloaded:
    """What an apps.json says, for a device of this fleet. An empty object is nothing.

    Raises:
        wire.WireError: it is of none of the forms, or lacks what is needed to run it.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise wire.WireError(f"apps.json is not valid JSON: {error}") from error
    if isinstance(document, list):
        found, pinned = _from_list(document), False
    else:
        found, pinned = _from_object(wire.mapping(document, "apps.json"))
    mine, others = {}, []
    for key, app in found.apps.items():
        number = wire.number(app.get("id"), f"apps.json: app {key}: id")
        is_fleet = app.get("class", "fleet") == "fleet" and not wire.flag(app.get("is_host"))
        if is_fleet and fleet_id is not None and number != fleet_id:
            others.append(number)
        else:
            mine[key] = app
    chosen = Preloaded(mine, found.config, _pin(mine) if pinned else None, tuple(others))
    read_target(chosen.target("device"), "device")  # all of it is of the right types
    return chosen


def _pin(apps: Mapping[str, Any]) -> Pin | None:
    for app in apps.values():
        if app.get("class", "fleet") == "fleet":
            for commit, release in wire.mapping(app.get("releases"), "releases").items():
                number = wire.number(release.get("id"), f"apps.json: release {commit}: id")
                return Pin(wire.number(app.get("id"), "id"), number, commit)
    return None


def _from_list(entries: list[object]) -> Preloaded:
    """The oldest form. It knows neither uuids nor numbers of releases: the application's number
    stands for the one, 0 for the other."""
    apps: dict[str, Any] = {}
    config: dict[str, str] = {}
    for place, entry in enumerate(entries):
        where = f"apps.json: entry {place}"
        fields = wire.mapping(entry, where)
        number = wire.number(fields.get("appId"), f"{where}: appId")
        service = {
            "id": 0,
            "image_id": 0,
            "image": _image(fields.get("imageId"), f"{where}: imageId"),
            "environment": wire.texts(fields.get("env"), f"{where}: env"),
            "labels": {},
            "composition": {},
        }
        commit = wire.text(fields.get("commit"), f"{where}: commit")
        apps[str(number)] = {
            "id": number,
            "name": wire.scalar(fields.get("name")) or str(number),
            "class": "fleet",
            "releases": {commit: {"id": 0, "services": {"main": service}}},
        }
        config |= wire.texts(fields.get("config"), f"{where}: config")
    return Preloaded(apps, config, None)


def _from_object(document: Mapping[str, Any]) -> tuple[Preloaded, bool]:
    """The newer forms, and whether `pinDevice` was asked for."""
    pinned = wire.flag(document.get("pinDevice"))
    if "apps" not in document and document:
        document, pinned = _unwrapped(document, pinned)
    apps = wire.mapping(document.get("apps"), "apps.json: apps")
    found = {}
    for key, value in apps.items():
        where = f"apps.json: app {key}"
        app = wire.mapping(value, where)
        if key.isdecimal() and "releases" not in app:
            app = _from_version_2(int(key), app, where)
        found[key] = _with_whole_names(app, where)
    config = wire.texts(document.get("config"), "apps.json: config")
    return Preloaded(found, config, None), pinned


def _unwrapped(document: Mapping[str, Any], pinned: bool) -> tuple[dict[str, Any], bool]:
    """A whole state of version 3 (one device's or fleet's), or applications alone."""
    rest = {key: each for key, each in document.items() if key != "pinDevice"}
    values = [wire.mapping(each, f"apps.json: {key}") for key, each in rest.items()]
    if len(values) == 1 and "apps" in values[0]:
        return values[0], pinned or wire.flag(values[0].get("pinDevice"))
    if values and all("releases" in each for each in values):
        return {"apps": rest}, pinned
    raise wire.WireError(
        f"apps.json has the keys {', '.join(sorted(rest))[:80]}: it must be a list of "
        "applications, or an object with `apps`"
    )


def _from_version_2(number: int, app: Mapping[str, Any], where: str) -> dict[str, Any]:
    services: dict[str, Any] = {}
    for service_id, value in wire.mapping(app.get("services"), f"{where}: services").items():
        fields = wire.mapping(value, f"{where}: service {service_id}")
        name = wire.text(fields.get("serviceName"), f"{where}: service {service_id}: serviceName")
        services[name] = {
            "id": wire.number(fields.get("serviceId", service_id), f"{where}: serviceId"),
            "image_id": wire.number(fields.get("imageId", 0), f"{where}: imageId"),
            "image": fields.get("image"),
            "environment": fields.get("environment"),
            "labels": fields.get("labels"),
            "running": fields.get("running", True),
            "composition": {k: v for k, v in fields.items() if k not in _NAMED_ELSEWHERE},
            "contract": fields.get("contract"),
        }
    commit = app.get("commit")
    release = {
        "id": wire.number(app.get("releaseId", 0), f"{where}: releaseId"),
        "services": services,
        "volumes": app.get("volumes"),
        "networks": app.get("networks"),
    }
    return {
        "id": number,
        "name": wire.scalar(app.get("name")) or str(number),
        "class": "fleet",
        "releases": {wire.text(commit, f"{where}: commit"): release} if commit else {},
    }


def _with_whole_names(app: Mapping[str, Any], where: str) -> dict[str, Any]:
    """With a tag or a digest in every image's name, as the engine lists it."""
    releases = {}
    for commit, value in wire.mapping(app.get("releases"), f"{where}: releases").items():
        release = wire.mapping(value, f"{where}: release {commit}")
        services = wire.mapping(release.get("services"), f"{where}: services")
        releases[commit] = {
            **release,
            "services": {
                name: {
                    **wire.mapping(service, f"{where}: service {name}"),
                    "image": _image(
                        wire.mapping(service, f"{where}: service {name}").get("image"),
                        f"{where}: service {name}: image",
                    ),
                }
                for name, service in services.items()
            },
        }
    return {**app, "releases": releases}


def _image(value: object, where: str) -> str:
    name = wire.text(value, where)
    is_whole = "@" in name or ":" in name.rpartition("/")[2]
    return name if is_whole else f"{name}:latest"

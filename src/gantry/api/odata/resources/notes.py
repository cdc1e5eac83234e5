"""What people set: variables and tags of fleets, services, releases and devices."""

from typing import Any

from sqlalchemy import ColumnElement, and_

from gantry.api.actors import Actor
from gantry.api.models import (
    ApplicationTag,
    ApplicationVariable,
    Base,
    DeviceServiceVariable,
    DeviceTag,
    DeviceVariable,
    ReleaseTag,
    ServiceVariable,
)
from gantry.api.odata.schema import Navigation, Resource, Row, refers
from gantry.api.queries import visibility

_CONFIGURATION = "^(RESIN|BALENA)_"


def _config_of(visible: visibility.Condition) -> visibility.Condition:
    """Only the variables that configure devices: the family has a resource of their own."""

    def both(row: Row, actor: Actor) -> ColumnElement[bool]:
        return and_(visible(row, actor), row.name.regexp_match(_CONFIGURATION))

    return both


def _of(
    name: str,
    model: type[Base],
    parent: str,
    visible: visibility.Condition,
    *,
    key: str = "name",
    **others: Any,
) -> Resource:
    """A resource whose rows belong to one of `parent` each, and are told apart by `key` there."""
    return Resource(
        name,
        model,
        visible,
        natural_keys=(frozenset({parent, key}),),
        navigations={parent: Navigation(parent, refers(parent))},
        **others,
    )


_fleet, _device = visibility.of_application, visibility.of_device

RESOURCES = (
    _of("application_environment_variable", ApplicationVariable, "application", _fleet),
    _of("application_config_variable", ApplicationVariable, "application", _config_of(_fleet)),
    _of("service_environment_variable", ServiceVariable, "service", visibility.of_service),
    _of("device_environment_variable", DeviceVariable, "device", _device),
    _of("device_config_variable", DeviceVariable, "device", _config_of(_device)),
    _of(
        "device_service_environment_variable",
        DeviceServiceVariable,
        "service_install",
        visibility.of_service_install,
    ),
    _of(
        "application_tag",
        ApplicationTag,
        "application",
        visibility.of_readable_application,
        key="tag_key",
        changeable=_fleet,
    ),
    _of("device_tag", DeviceTag, "device", _device, key="tag_key"),
    _of(
        "release_tag",
        ReleaseTag,
        "release",
        visibility.of_readable_release,
        key="tag_key",
        changeable=visibility.of_release,
    ),
)

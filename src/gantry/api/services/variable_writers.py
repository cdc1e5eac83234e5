"""Variables of fleets, services and devices, as the resource model takes them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.orm import Session

from gantry.api.actors import UserActor
from gantry.api.errors import BadRequestError
from gantry.api.models import (
    ApplicationVariable,
    DeviceServiceVariable,
    DeviceVariable,
    ServiceVariable,
)
from gantry.api.queries import records
from gantry.api.services import parents, variables
from gantry.api.services.records import Body, Reference, Writer


class NewVariable(Body):
    """A variable of something."""

    name: str
    value: str


class NewApplicationVariable(NewVariable):
    """A variable of a fleet."""

    application: Reference


class NewServiceVariable(NewVariable):
    """A variable of one service of a fleet."""

    service: Reference


class NewDeviceVariable(NewVariable):
    """A variable of a device."""

    device: Reference


class NewDeviceServiceVariable(NewVariable):
    """A variable of one service on one device."""

    service_install: Reference


class ChangedVariable(Body):
    """A variable's new value; its name stays."""

    value: str


def _any(name: str) -> None:
    """Both kinds of names."""


def _configuration(name: str) -> None:
    if not variables.is_configuration(name):
        raise BadRequestError(
            f"{name[:100]!r} configures nothing: names of configuration variables begin "
            "with RESIN_HOST_, RESIN_SUPERVISOR_ or the BALENA_ forms"
        )


def _environment(name: str) -> None:
    if variables.is_configuration(name):
        raise BadRequestError(
            f"{name[:100]!r} configures a device, not one of its services: set it for the fleet or "
            "the device"
        )


def _writer(
    model: type[Any], new: type[NewVariable], parent: parents.Parent, check: Any = _any
) -> Writer:
    def create(session: Session, actor: UserActor, body: Any) -> int:
        check(body.name)
        parent_id = getattr(body, parent.column)
        owner = parent.found(session, actor, parent_id)
        variables.check(body.name, body.value)
        taken = {parent.column: parent_id, "name": body.name}
        parents.refuse_second(session, model, taken, f"{owner} has a variable {body.name}")
        return records.add(session, model(**taken, value=body.value))

    def update(session: Session, _: UserActor, ids: Sequence[int], body: ChangedVariable) -> None:
        variables.check("value", body.value)
        records.change(session, model, ids, {"value": body.value})

    def delete(session: Session, _: UserActor, ids: Sequence[int]) -> None:
        records.delete(session, model, ids)

    return Writer((new, create), (ChangedVariable, update), delete)


WRITERS = {
    "application_environment_variable": _writer(
        ApplicationVariable, NewApplicationVariable, parents.APPLICATION
    ),
    "application_config_variable": _writer(
        ApplicationVariable, NewApplicationVariable, parents.APPLICATION, _configuration
    ),
    "service_environment_variable": _writer(
        ServiceVariable, NewServiceVariable, parents.SERVICE, _environment
    ),
    "device_environment_variable": _writer(DeviceVariable, NewDeviceVariable, parents.DEVICE),
    "device_config_variable": _writer(
        DeviceVariable, NewDeviceVariable, parents.DEVICE, _configuration
    ),
    "device_service_environment_variable": _writer(
        DeviceServiceVariable, NewDeviceServiceVariable, parents.SERVICE_INSTALL, _environment
    ),
}

"""Changes of the resource model: which resources take them, and what each must hold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from sqlalchemy.orm import Session

from gantry.api.actors import Actor, DeviceActor, UserActor
from gantry.api.errors import ApiError, BadRequestError, ForbiddenError


class MethodNotAllowedError(ApiError):
    """The resource exists and takes no such change."""

    status = 405


def _reference(value: object) -> object:
    """References are sent as ids, as ids in texts, or as they are read: `{"__id": 5}`."""
    if isinstance(value, dict) and value.keys() == {"__id"}:
        return value["__id"]
    return value


Reference = Annotated[int, BeforeValidator(_reference)]


class Body(BaseModel):
    """Fields that a client may set; any other is refused by name."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    def sent(self) -> dict[str, Any]:
        """The fields that the client sent, and no defaults."""
        return {name: getattr(self, name) for name in self.model_fields_set}


Create = Callable[[Session, UserActor, Any], int]
Update = Callable[[Session, UserActor, Sequence[int], Any], None]
Delete = Callable[[Session, UserActor, Sequence[int]], None]
UpdateByDevice = Callable[[Session, DeviceActor, Sequence[int], Any], None]


@dataclass(frozen=True, slots=True)
class Writer:
    """How one resource is changed; what is None is not offered.

    `by_device` is what a device may change of its own row.
    """

    create: tuple[type[Body], Create] | None = None
    update: tuple[type[Body], Update] | None = None
    delete: Delete | None = None
    by_device: tuple[type[Body], UpdateByDevice] | None = None


@dataclass(frozen=True)
class Records:
    """Changes rows of the resource model for one actor."""

    writers: Mapping[str, Writer]
    session: Session
    actor: Actor

    def create(self, resource: str, body: object) -> int:
        """A new row's id."""
        offered = self._writer(resource).create
        if offered is None:
            raise MethodNotAllowedError(f"{resource} cannot be made this way")
        model, create = offered
        return create(self.session, self._user(), _parsed(model, body))

    def update(self, resource: str, ids: Sequence[int], body: object) -> None:
        """Change these rows, which the actor may see."""
        by_device = self._writer(resource).by_device
        if isinstance(self.actor, DeviceActor) and by_device is not None:
            fields, change = by_device
            asked = set(body) if isinstance(body, dict) else set()
            if not asked or not asked <= fields.model_fields.keys():
                raise ForbiddenError(
                    f"a device may change of its own {resource} row only: "
                    f"{', '.join(fields.model_fields)}"
                )
            change(self.session, self.actor, ids, _parsed(fields, body))
            return
        offered = self._writer(resource).update
        if offered is None:
            raise MethodNotAllowedError(f"{resource} cannot be changed")
        model, update = offered
        update(self.session, self._user(), ids, _parsed(model, body))

    def delete(self, resource: str, ids: Sequence[int]) -> None:
        """Remove these rows, which the actor may see."""
        offered = self._writer(resource).delete
        if offered is None:
            raise MethodNotAllowedError(f"{resource} cannot be removed this way")
        offered(self.session, self._user(), ids)

    def _writer(self, resource: str) -> Writer:
        return self.writers.get(resource, Writer())

    def _user(self) -> UserActor:
        if not isinstance(self.actor, UserActor):
            raise ForbiddenError("only users change resources: devices report their state instead")
        return self.actor


def _parsed(model: type[Body], body: object) -> Body:
    try:
        return model.model_validate(body)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc']) or 'body'}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)[:5]
        )
        known = ", ".join(model.model_fields)
        raise BadRequestError(f"{faults} (the fields are {known})") from error

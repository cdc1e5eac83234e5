"""Which ports of devices the members of an organization reach.

An application may have a list of them, and a device another one. They are what members reach who
are no administrators; administrators reach all, and say what the lists are. Without a list all are
reached.
"""

import re
from typing import Annotated

from pydantic import AfterValidator, StringConstraints
from sqlalchemy.orm import Session

from gantry.api.errors import ForbiddenError
from gantry.api.models import Application, Device, OrganizationRole
from gantry.api.models.fleet import PORTS_PATTERN
from gantry.api.queries import organizations, records

SSH_PORT = 22222
WEB_PORT = 80
MAX_TEXT = 1000
_PORTS = re.compile(PORTS_PATTERN)


def normal(text: str) -> str:
    """A list of ports as it is kept: in order, without blanks.

    Raises:
        ValueError: it is none.
    """
    plain = re.sub(r"\s", "", text)
    if not _PORTS.fullmatch(plain):
        raise ValueError("write ports and ranges of them, such as 80,8000-8010; nothing for none")
    found = []
    for each in plain.split(",") if plain else []:
        first, last = _ends(each)
        if not 1 <= first <= last <= 65535:
            raise ValueError(
                f"{each}: ports are 1 to 65535, and a range begins with the smaller one"
            )
        found.append((first, last))
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in sorted(set(found)))


Ports = Annotated[str, StringConstraints(max_length=MAX_TEXT), AfterValidator(normal)]


def holds(ports: str, port: int) -> bool:
    """Whether a list has this port."""
    return any(first <= port <= last for first, last in map(_ends, filter(None, ports.split(","))))


def _ends(part: str) -> tuple[int, int]:
    first, _, last = part.partition("-")
    return int(first), int(last or first)


def listed(session: Session, user_id: int, device: Device) -> str | None:
    """The ports of a device that a member reaches; None: all."""
    application = records.by_id(session, Application, device.belongs_to__application)
    ports = device.reachable_ports
    if ports is None:
        ports = application.reachable_ports
    return None if ports is None or _administers(session, user_id, application) else ports


def check(session: Session, user_id: int, device: Device, port: int) -> None:
    """Whether a member reaches a port of a device.

    Raises:
        ForbiddenError: they do not; with those that they reach.
    """
    ports = listed(session, user_id, device)
    if ports is not None and not holds(ports, port):
        which = f"ports {ports}" if ports else "no port"
        raise ForbiddenError(
            f"port {port} of device {device.uuid[:7]} is for administrators: other members reach "
            f"{which} of it"
        )


def check_may_say(session: Session, user_id: int, application: Application) -> None:
    """Whether a user says which ports of an application's devices are reached.

    Raises:
        ForbiddenError: they are no administrator of its organization.
    """
    if not _administers(session, user_id, application):
        raise ForbiddenError(
            f"only administrators of the organization of {application.slug} say which ports of its "
            "devices are reached"
        )


def _administers(session: Session, user_id: int, application: Application) -> bool:
    role = organizations.role_of(session, user_id, application.organization)
    return role is OrganizationRole.ADMINISTRATOR

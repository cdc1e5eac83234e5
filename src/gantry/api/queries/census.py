"""How many there are."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from gantry.api.models import Application, Device


def devices(session: Session) -> dict[tuple[str, str], int]:
    """Devices by the state of their heartbeat and the class of their application."""
    found = session.execute(
        select(Device.api_heartbeat_state, Application.is_of__class, func.count())
        .join(Application, Application.id == Device.belongs_to__application)
        .group_by(Device.api_heartbeat_state, Application.is_of__class)
    )
    return {(state, kind): number for state, kind, number in found}

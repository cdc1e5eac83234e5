"""Tags as devices set them."""

from collections.abc import Mapping

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from gantry.api.models import DeviceTag


def set_of_device(session: Session, device_id: int, tags: Mapping[str, str]) -> None:
    """Give a device these tags; what it has of others stays."""
    if not tags:
        return
    rows = [
        {"device": device_id, "tag_key": key, "value": value} for key, value in sorted(tags.items())
    ]
    statement = insert(DeviceTag).values(rows)
    changed = statement.on_conflict_do_update(
        index_elements=["device", "tag_key"],
        set_={"value": statement.excluded.value},
        where=DeviceTag.value != statement.excluded.value,
    )
    session.execute(changed)

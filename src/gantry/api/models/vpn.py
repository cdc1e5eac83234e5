"""The servers of the fleet's VPN."""

from datetime import datetime

from sqlalchemy import Sequence
from sqlalchemy.orm import Mapped, mapped_column

from gantry.api.models.base import Base

# The next address that a device may have: so many after the network's own.
VPN_ADDRESSES = Sequence("vpn_address", metadata=Base.metadata)


class VpnServer(Base):
    """A server that has told of itself."""

    __tablename__ = "vpn_server"

    name: Mapped[str] = mapped_column(primary_key=True)
    # Names its present run: connections of another one are gone.
    boot: Mapped[str]
    heard_at: Mapped[datetime]

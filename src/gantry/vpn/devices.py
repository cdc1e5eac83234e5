"""Which devices are logged in: openvpn's notices become sessions, and events for the api."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from gantry.vpn import management
from gantry.vpn.api import DeviceGrant, Event
from gantry.vpn.cuts import Cuts
from gantry.vpn.management import ClientNotice, Kind
from gantry.vpn.metrics import Metrics
from gantry.vpn.process import Run

# openvpn gives a client a minute for its handshake; it says nothing of those that never finish.
UNFINISHED_SECONDS = 120.0


@dataclass(eq=False)
class Session:
    """One connection of a device, from its login on. `proof` is what a fingerprint of its key is,
    so that it may go on while the api is away.
    """

    run: Run
    client: int
    grant: DeviceGrant
    proof: bytes
    begun: float
    since: str = ""
    timer: asyncio.TimerHandle | None = None

    @property
    def established(self) -> bool:
        """Whether openvpn has let it in; `since` says when, in ISO 8601."""
        return bool(self.since)

    @property
    def name(self) -> str:
        """Unique over all servers and for ever."""
        return f"{self.run.boot}-{self.client}"

    @property
    def topics(self) -> tuple[str, ...]:
        """What ends it."""
        return (f"credential:{self.grant.credential}", f"device-login:{self.grant.uuid}")


class Devices:
    """All sessions of this server, of which there are `most`. `on_event` is told who came and went,
    in order.
    """

    def __init__(
        self,
        most: int,
        cuts: Cuts,
        metrics: Metrics,
        on_event: Callable[[Run, Event], None],
    ) -> None:
        self._most = most
        metrics.room.set(most)
        self._cuts = cuts
        self._metrics = metrics
        self._on_event = on_event
        self._sessions: dict[int, Session] = {}
        self._connected: dict[str, Session] = {}

    @property
    def connected(self) -> Mapping[str, Session]:
        """Those that are there, by uuid."""
        return self._connected

    def session(self, client: int) -> Session | None:
        """A connection that was let in."""
        return self._sessions.get(client)

    def is_full_for(self, uuid: str) -> bool:
        """Whether there is no room for this device. One that is there already has its own place."""
        return uuid not in self._connected and len(self._sessions) >= self._most

    def admit(self, run: Run, client: int, grant: DeviceGrant, proof: bytes) -> None:
        """A device may come in; it is watched from now on, and counts once openvpn says that it
        is there."""
        self._forget_unfinished()
        session = Session(run, client, grant, proof, time.monotonic())
        self._sessions[client] = session
        self._watch(session)

    def renew(self, session: Session, grant: DeviceGrant, proof: bytes) -> None:
        """It was asked for again: the credential may be another, or its end."""
        self._unwatch(session)
        session.grant, session.proof = grant, proof
        self._watch(session)

    def end(self, session: Session, reason: str) -> None:
        """Cut a device off."""
        self._metrics.kills.inc()
        print(f"device {session.grant.uuid} is cut off: {reason}", flush=True)
        session.run.management.send(management.kill(session.client))
        # Its last seconds carry nothing any more.
        self._cuts.cut(f"device:{session.grant.uuid}", reason)

    def established(self, notice: ClientNotice) -> None:
        """openvpn has let it in."""
        session = self._sessions.get(notice.client)
        if session is None:
            return
        session.since = _now()
        self._connected[session.grant.uuid] = session
        self._metrics.connected.set(len(self._connected))
        self._tell(session, "connected", session.since)

    def disconnected(self, notice: ClientNotice) -> None:
        """It is gone."""
        session = self._sessions.pop(notice.client, None)
        if session:
            self._metrics.count_bytes(notice.environment)
            self._gone(session)

    def all_gone(self, run: Run) -> None:
        """openvpn ended, and every connection with it."""
        sessions, self._sessions = self._sessions, {}
        for each in sessions.values():
            self._gone(each)

    def restate(self) -> list[tuple[Run, Event]]:
        """What is, as events of when it began: for an api that may have missed some."""
        return [
            (each.run, _event(each, "connected", each.since)) for each in self._connected.values()
        ]

    def _gone(self, session: Session) -> None:
        self._unwatch(session)
        if not session.established:
            return
        # A device that came again before its old connection ended is there still.
        if self._connected.get(session.grant.uuid) is session:
            del self._connected[session.grant.uuid]
            self._cuts.cut(f"device:{session.grant.uuid}", "the device left the VPN")
        self._metrics.connected.set(len(self._connected))
        self._tell(session, "disconnected", _now())

    def _tell(self, session: Session, what: str, at: str) -> None:
        print(f"device {session.grant.uuid} {what} as {session.grant.address}", flush=True)
        self._on_event(session.run, _event(session, what, at))

    def _watch(self, session: Session) -> None:
        def end(reason: str) -> None:
            self.end(session, reason)

        self._cuts.add(session, session.topics, end)
        if session.grant.ends < math.inf:
            left = max(0.0, session.grant.ends - time.monotonic())
            session.timer = asyncio.get_running_loop().call_later(left, end, "its key has expired")

    def _unwatch(self, session: Session) -> None:
        self._cuts.remove(session, session.topics)
        if session.timer:
            session.timer.cancel()
            session.timer = None

    def _forget_unfinished(self) -> None:
        """The oldest are first."""
        limit = time.monotonic() - UNFINISHED_SECONDS
        for each in [s for s in self._sessions.values() if not s.established and s.begun < limit]:
            del self._sessions[each.client]
            self._unwatch(each)


def _event(session: Session, what: str, at: str) -> Event:
    return Event(session.grant.uuid, str(session.grant.address), what, at, session.name)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class Dispatch:
    """openvpn's listener: logins go to the authenticator, the rest to the sessions."""

    def __init__(
        self,
        devices: Devices,
        on_login: Callable[[Run, ClientNotice], None],
        on_run: Callable[[Run], None],
    ) -> None:
        self._devices = devices
        self._on_login = on_login
        self._on_run = on_run

    def started(self, run: Run) -> None:
        """openvpn runs."""
        print("openvpn runs: devices can log in", flush=True)
        self._on_run(run)

    def noticed(self, run: Run, notice: ClientNotice) -> None:
        """Something about a client."""
        match notice.kind:
            case Kind.CONNECT | Kind.REAUTH:
                self._on_login(run, notice)
            case Kind.ESTABLISHED:
                self._devices.established(notice)
            case Kind.DISCONNECT:
                self._devices.disconnected(notice)

    def ended(self, run: Run) -> None:
        """All of its connections are gone."""
        self._devices.all_gone(run)

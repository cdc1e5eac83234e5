"""The event stream of a device: what changed between two looks at it.

A watcher compares what it told last with what is now. So the first events tell everything, a slow
reader misses intermediate states but never the last one, and nothing is held back in memory.
"""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gantry.supervisor.keys import Scope
from gantry.supervisor.locks import LockHolder
from gantry.supervisor.pulse import Pulse
from gantry.supervisor.views import Picture, applications_state, lock_view

# Lock files tell nobody that they were made: they are looked for so often, in seconds.
_LOOK_EVERY = 1.0
# Changes that come together are told together.
_COLLECT = 0.1
# A comment, after so many seconds of silence, shows that somebody still listens.
_HEARTBEAT = 15.0


class Kind(StrEnum):
    """The name of an event."""

    STATE = "state"
    PROGRESS = "progress"
    LOCKS = "locks"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that changed; `data` is what is now."""

    kind: Kind
    data: Mapping[str, Any]

    def encode(self) -> bytes:
        """As server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        return f"event: {self.kind}\ndata: {json.dumps(self.data)}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Look:
    """What a caller may see at one moment: events by what they are about."""

    events: Mapping[str, Event]

    def since(self, before: "Look") -> Iterator[Event]:
        """What is not as it was."""
        for subject, event in self.events.items():
            if before.events.get(subject) != event:
                yield event


def look(picture: Picture, holders: tuple[LockHolder, ...], scope: Scope) -> Look:
    """What this scope sees."""
    events: dict[str, Event] = {}
    for name, app in applications_state(picture, scope).items():
        services = {
            service: {key: each[key] for key in ("status", "image", "releaseId")}
            for service, each in app["services"].items()
        }
        state = {**app, "appName": name, "services": services}
        events[f"state {app['appId']}"] = Event(Kind.STATE, state)
        for service, each in app["services"].items():
            if each["downloadProgress"] is not None:
                data = {"appId": app["appId"], "appName": name, "serviceName": service}
                data |= {key: each[key] for key in ("image", "downloadProgress")}
                received = picture.received.get(each["image"])
                data |= {
                    "way": received.way if received else None,
                    "downloadedBytes": received.done if received else None,
                    "totalBytes": received.total if received else None,
                }
                events[f"progress {app['appId']} {service}"] = Event(Kind.PROGRESS, data)
    seen = [lock_view(each) for each in holders if scope.covers(each.app_id)]
    events["locks"] = Event(Kind.LOCKS, {"locks": seen})
    return Look(events)


async def watch(
    picture: Callable[[], Picture],
    holders: Callable[[], Awaitable[tuple[LockHolder, ...]]],
    scope: Scope,
    pulse: Pulse,
) -> AsyncGenerator[bytes, None]:
    """What this scope may see, for ever; whoever ends it closes the generator."""
    before = Look({})
    told = time.monotonic()
    with pulse.listen() as changed:
        while True:
            now = look(picture(), await holders(), scope)
            changes = [each.encode() for each in now.since(before)]
            before = now
            if not changes and time.monotonic() - told > _HEARTBEAT:
                changes.append(b": still here\n\n")
            for each in changes:
                yield each
                told = time.monotonic()
            await changed.wait(_LOOK_EVERY)
            await asyncio.sleep(_COLLECT)

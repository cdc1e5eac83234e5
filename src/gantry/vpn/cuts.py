"""What is cut when something ends: a credential, a device's connection, a public URL."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator


class Cuts:
    """Who goes by what. A topic is `credential:NAME`, `device:UUID` or `public:UUID`."""

    def __init__(self) -> None:
        self._topics: dict[str, dict[object, Callable[[str], None]]] = {}

    def add(self, owner: object, topics: Iterable[str], cut: Callable[[str], None]) -> None:
        """Have `cut` called with the reason when one of these ends."""
        for each in topics:
            self._topics.setdefault(each, {})[owner] = cut

    def remove(self, owner: object, topics: Iterable[str]) -> None:
        """It ended by itself."""
        for each in topics:
            owners = self._topics.get(each)
            if owners is not None:
                owners.pop(owner, None)
                if not owners:
                    del self._topics[each]

    def cut(self, topic: str, reason: str) -> int:
        """This is over; how many went by it."""
        owners = tuple(self._topics.get(topic, {}).values())
        for each in owners:
            each(reason)
        return len(owners)

    def names(self, kind: str) -> list[str]:
        """What something goes by: all names of this kind, such as `credential`."""
        prefix = f"{kind}:"
        return [each.removeprefix(prefix) for each in self._topics if each.startswith(prefix)]

    @contextlib.contextmanager
    def guarding(self, topics: Iterable[str], ends: float = math.inf) -> Iterator["Guard"]:
        """The body is cancelled when one of these ends, or at `ends` (monotonic). It then goes on
        after the block; the guard says why.
        """
        guard = Guard(asyncio.current_task())
        names = tuple(topics)
        self.add(guard, names, guard.cut)
        timer = None
        if ends < math.inf:
            left = max(0.0, ends - time.monotonic())
            loop = asyncio.get_running_loop()
            timer = loop.call_later(left, guard.cut, "the key's or session's time is over")
        try:
            yield guard
        except asyncio.CancelledError:
            if not guard.absorbs():
                raise
        finally:
            guard.over = True
            self.remove(guard, names)
            if timer:
                timer.cancel()


class Guard:
    """Cancels a task once, and only while its guarded block runs."""

    def __init__(self, task: "asyncio.Task[object] | None") -> None:
        self._task = task
        self.over = False
        self.reason = ""

    def cut(self, reason: str) -> None:
        """End the block."""
        if not self.over and not self.reason and self._task:
            self.reason = reason
            self._task.cancel(reason)

    def absorbs(self) -> bool:
        """Whether the cancellation was ours alone, and not also somebody else's."""
        return bool(self.reason) and self._task is not None and self._task.uncancel() == 0

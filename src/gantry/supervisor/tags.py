"""Tags that applications set on their device: kept until the api has them.

As with the family, what a user changed on the other side meanwhile is not looked at: these tags are
the device's own, and the last value that is set here is what is sent.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from gantry.supervisor.backoff import Backoff
from gantry.supervisor.cloud import Cloud, CloudError
from gantry.supervisor.store import Store

_LOG = logging.getLogger(__name__)
# The family's first pause after a failure, in seconds; it doubles up to the poll interval.
_FIRST_RETRY = 15.0
_FACT = "device_tags"
# The api's bounds; what it would refuse for ever is refused at once.
_LONGEST_KEY = 100
_LONGEST_VALUE = 1000
_MOST = 200


class TagError(ValueError):
    """No tag of a device; the message says what to give."""


def read_tags(body: Mapping[str, Any]) -> dict[str, str]:
    """The tags in the body of `PATCH /v2/device/tags`.

    Raises:
        TagError: the first that is none.
    """
    for key, value in body.items():
        if not isinstance(value, str):
            raise TagError(f"tag {key[:40]!r} is {value!r:.80}: give an object of texts")
        if not key or len(key) > _LONGEST_KEY or not key.isprintable():
            raise TagError(f"tag {key[:40]!r}: a key has 1 to {_LONGEST_KEY} printable characters")
        if any(each.isspace() for each in key):
            raise TagError(f"tag {key[:40]!r}: a key has no blanks")
        if len(value) > _LONGEST_VALUE:
            raise TagError(f"tag {key[:40]!r}: a value has {_LONGEST_VALUE} characters at most")
    return dict(body)


class Tags:
    """The tags of this device. `longest_retry` gives seconds."""

    def __init__(self, cloud: Cloud, store: Store, longest_retry: Callable[[], float]) -> None:
        self._cloud = cloud
        self._store = store
        self._longest_retry = longest_retry
        self._wanted: dict[str, str] = {}
        self._confirmed: dict[str, str] = {}
        self._news = asyncio.Event()

    async def open(self) -> None:
        """Take up what was not sent before the last end."""
        document = await self._store.get(_FACT)
        if isinstance(document, dict):
            self._wanted = dict(document.get("wanted") or {})
            self._confirmed = dict(document.get("confirmed") or {})
        if self._pending():
            self._news.set()

    async def read(self) -> list[dict[str, Any]]:
        """The device's tags as the api has them: id, name and value of each.

        Raises:
            CloudError: the api cannot be asked now.
        """
        return await self._cloud.tags()

    async def set(self, tags: Mapping[str, str]) -> None:
        """Have these tags set, now or when the api answers again.

        Raises:
            TagError: those are more than a device may set.
        """
        wanted = {**self._wanted, **tags}
        if len(wanted) > _MOST:
            raise TagError(f"{len(wanted)} tags: a device sets {_MOST} at most")
        self._wanted = wanted
        await self._save()
        if self._pending():
            self._news.set()

    async def run(self) -> None:
        """Send what is not there yet, for ever."""
        trouble = self._backoff()
        while True:
            await self._news.wait()
            self._news.clear()
            pending = self._pending()
            if not pending:
                continue
            try:
                await self._cloud.set_tags(pending)
            except CloudError as error:
                self._news.set()
                wait = max(trouble.next(), error.retry_after or 0.0)
                _LOG.warning("tags not set: %s; next try in %.0f s", error, wait)
                await asyncio.sleep(wait)
                continue
            trouble = self._backoff()
            self._confirmed |= pending
            await self._save()

    def _backoff(self) -> Backoff:
        return Backoff(_FIRST_RETRY, max(_FIRST_RETRY, self._longest_retry()))

    def _pending(self) -> dict[str, str]:
        return {
            key: value for key, value in self._wanted.items() if self._confirmed.get(key) != value
        }

    async def _save(self) -> None:
        await self._store.put(_FACT, {"wanted": self._wanted, "confirmed": self._confirmed})

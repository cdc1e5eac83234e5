"""Loops that go on, whatever one turn of them meets."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

_LOG = logging.getLogger(__name__)
_RESTART_AFTER = 5.0


async def keep_going(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """A fault in one loop ends neither the others nor, for long, itself."""
    while True:
        try:
            await work()
            return
        except Exception:
            _LOG.exception("the %s loop failed; begun again in %.0f s", name, _RESTART_AFTER)
            await asyncio.sleep(_RESTART_AFTER)

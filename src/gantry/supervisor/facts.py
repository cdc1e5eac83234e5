"""What a supervisor remembers over a restart, for those who keep something there: `store.Store`."""

from typing import Any, Protocol


class Facts(Protocol):
    """Facts by name, as JSON has them; None for what was never put."""

    async def get(self, name: str) -> Any: ...

    async def put(self, name: str, value: Any) -> None: ...


class LastingFacts(Facts, Protocol):
    """After `flush` a power loss leaves what was put before."""

    async def flush(self) -> None: ...

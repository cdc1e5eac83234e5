"""What the server tells the process that makes a delta. It imports none of its libraries."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made. Layers are `(diffID, path of the tar)`; `memory` in bytes,
    which `processes` may have, and each of them at most; `limit` is the most bytes that the delta
    may have, 0 for any.
    """

    sources: tuple[tuple[str, str], ...]
    targets: tuple[tuple[str, str], ...]
    config: str
    out: str
    memory: int
    processes: int
    limit: int = 0

    def encode(self) -> bytes:
        """As the process reads it: one line."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decode(cls, line: str) -> "Order":
        told = json.loads(line)
        return cls(
            sources=tuple((str(a), str(b)) for a, b in told["sources"]),
            targets=tuple((str(a), str(b)) for a, b in told["targets"]),
            config=str(told["config"]),
            out=str(told["out"]),
            memory=int(told["memory"]),
            processes=int(told["processes"]),
            limit=int(told["limit"]),
        )

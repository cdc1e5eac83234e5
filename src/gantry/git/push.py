"""What the forced command tells the hook."""

import json
from dataclasses import asdict, dataclass

VARIABLE = "GANTRY_PUSH"


@dataclass(frozen=True, slots=True)
class Push:
    """Who pushes to what, as the api allowed it; `started` is the push's begin by time.monotonic.

    It goes from the forced command to the hook as JSON in the environment: no secret is in it.
    """

    username: str
    user_id: int
    application_id: int
    application_uuid: str
    slug: str
    device_type: str
    started: float

    def dumps(self) -> str:
        """This push as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Push":
        """The push of `dumps`."""
        return cls(**json.loads(text))

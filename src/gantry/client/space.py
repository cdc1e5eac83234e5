"""The space that a fleet's registry takes, over the api: looked at, and collected."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gantry.client.errors import ClientError
from gantry.client.transport import Transport
from gantry.contracts.registry_space import KEEP_TAG, RunKind, RunStatus, SpaceReport

# The collector asks the api every three seconds what there is to do.
PAUSE_SECONDS = 1.0
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Run:
    """A look at the registry, and what was removed. Times are ISO 8601, UTC; `linger` in seconds:
    what removed images were made of is freed so long after their removal."""

    id: int
    kind: RunKind
    status: RunStatus
    created_at: str
    started_at: str | None
    ended_at: str | None
    progress: str | None
    error: str | None
    linger: int
    report: SpaceReport | None


class Space:
    """What `ApiClient.space` offers; it raises what that does."""

    def __init__(self, http: Transport) -> None:
        self._http = http

    def runs(self) -> list[Run]:
        """The last ones, the newest first; of their reports the figures alone."""
        found = self._http.request("GET", "/registry/space").json()
        return [_run(row) for row in found["runs"]]

    def order(self, kind: RunKind, linger: int | None = None) -> Run:
        """Have the collector look at the registry, or collect."""
        body: dict[str, Any] = {"kind": kind.value}
        body |= {} if linger is None else {"linger": linger}
        return _run(self._http.request("POST", "/registry/run", json=body).json())

    def get(self, run_id: int) -> Run:
        """One of them, with its report once it is over."""
        return _run(self._http.request("GET", f"/registry/run/{run_id}").json())

    def keep(self, release: int, is_kept: bool) -> None:
        """Have a release's images stay, whatever is collected; or no more."""
        wanted = f"release eq {release} and tag_key eq '{KEEP_TAG}'"
        found = self._http.request("GET", "/v7/release_tag", params={"$filter": wanted}).json()["d"]
        if is_kept and not found:
            body = {"release": release, "tag_key": KEEP_TAG, "value": ""}
            self._http.request("POST", "/v7/release_tag", json=body)
        elif found and not is_kept:
            self._http.request("DELETE", f"/v7/release_tag({found[0]['id']})")

    def carry_out(
        self, kind: RunKind, say: Callable[[str], None], linger: int | None = None
    ) -> Run:
        """Order a run, say how far it is, and wait for its end.

        Raises:
            ClientError: it failed, or no collector takes the order.
        """
        run = self.order(kind, linger)
        begun = time.monotonic()
        said = ""
        while not run.status.is_over:
            if run.status is RunStatus.ORDERED and time.monotonic() - begun > PATIENCE_SECONDS:
                raise ClientError(
                    f"nobody takes run {run.id} over the registry: see that the fleet's container "
                    "`collector` is up; it is done when it comes"
                )
            if run.progress and run.progress != said:
                said = run.progress
                say(said)
            time.sleep(PAUSE_SECONDS)
            run = self.get(run.id)
        if run.status is RunStatus.FAILED or run.report is None:
            raise ClientError(
                f"run {run.id} over the registry failed: {run.error or 'no reason was given'}; "
                "what it had removed is removed, and the next one goes on from there"
            )
        return run


def _run(row: Mapping[str, Any]) -> Run:
    report = row["report"]
    return Run(
        id=row["id"],
        kind=RunKind(row["kind"]),
        status=RunStatus(row["status"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        progress=row["progress"],
        error=row["error"],
        linger=row["linger"],
        report=SpaceReport.from_json(report) if report else None,
    )

"""Carries out actions on devices, each process as many as it can.

A device is asked for one thing at a time. What it cannot have heard of is tried again: when it
connects the next time, and from time to time. What it may have heard of is not: then the outcome is
told as unknown.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from fastapi.concurrency import run_in_threadpool
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from gantry.api import tunnel
from gantry.api.database import Database, reason
from gantry.api.events import Hub
from gantry.api.models import ActionKind, ActionStatus
from gantry.api.queries import actions
from gantry.api.queries.actions import Taken
from gantry.api.services import device_requests
from gantry.api.services.actions import note_end
from gantry.api.services.device_requests import UnreachableError
from gantry.api.services.vault import Vault
from gantry.api.tunnel import Gate, NoAnswerError, NotReachedError

log = logging.getLogger(__name__)

# Most of them wait, for devices that are slow or silent: that holds a connection each, no thread.
AT_ONCE = 64
# A look without an announcement, and a sign of life for what is running.
LOOK_SECONDS = 15.0
LEASE = timedelta(seconds=90)
# The supervisor gives up a restart or purge after ten minutes, and then says so.
ANSWER_SECONDS = 660.0
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 300.0
RETRY_SECONDS = 5.0
MAX_TEXT = 500

T = TypeVar("T")


def request_of(action: str, parameters: dict[str, Any], application_id: int) -> tuple[str, object]:
    """Path and body of the supervisor's endpoint for an action (docs/supervisor.md)."""
    force = {"force": bool(parameters.get("force"))}
    match ActionKind(action):
        case ActionKind.RESTART | ActionKind.PURGE as kind:
            return f"v1/{kind}", {"appId": application_id, **force}
        case ActionKind.REBOOT | ActionKind.SHUTDOWN | ActionKind.UPDATE as kind:
            return f"v1/{kind}", force
        case ActionKind.IDENTIFY:
            return "v1/blink", {}
        case kind:
            body = {"appId": application_id, "serviceName": parameters["service"], **force}
            return f"v2/applications/{application_id}/{kind}", body


class Worker:
    """One process's part of the work; `name` is the process's among the replicas."""

    def __init__(
        self, database: Database, hub: Hub, vault: Vault, gate: Gate | None, name: str
    ) -> None:
        self._database = database
        self._hub = hub
        self._vault = vault
        self._gate = gate
        self._name = name
        # By the number of the action that each carries out.
        self._tasks: dict[asyncio.Task[None], int] = {}

    async def run(self) -> None:
        """Carry out what is due, until cancelled."""
        try:
            while not self._hub.is_closed:
                self._hub.actions.clear()
                await self._begin()
                await self._rest()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _begin(self) -> None:
        """Take what is due, as long as there is room."""
        if self._gate is None:
            return
        try:
            if self._tasks:
                # No others: what a task has failed to end is settled when its lease is over.
                held = sorted(self._tasks.values())
                await self._in_transaction(lambda s: actions.renew(s, self._name, held, LEASE))
            room = AT_ONCE - len(self._tasks)
            if room:
                taken = await self._in_transaction(
                    lambda s: actions.take(s, self._name, room, LEASE)
                )
                for each in taken:
                    task = asyncio.create_task(self._carry_out(self._gate, each))
                    self._tasks[task] = each.id
        except SQLAlchemyError as error:
            log.warning("looking for actions failed, trying again later: %s", reason(error))

    async def _rest(self) -> None:
        """Until there may be something to do: an announcement, or an end of one of these."""
        news = asyncio.create_task(self._hub.actions.wait())
        done, _ = await asyncio.wait(
            {news, *self._tasks}, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        news.cancel()
        for task in self._tasks.keys() & done:
            if error := task.exception():
                log.error("action %d failed within the api", self._tasks[task], exc_info=error)
            del self._tasks[task]

    async def _carry_out(self, gate: Gate, taken: Taken) -> None:
        if not taken.is_allowed:
            text = "whoever wanted it may not reach the device any more"
            await self._end(taken, ActionStatus.CANCELLED, None, text)
            return
        try:
            answer = await self._ask(gate, taken)
        except (NotReachedError, UnreachableError) as error:
            await self._put_back(taken, str(error))
        except NoAnswerError as error:
            text = f"the device was asked, and what it has done is not known: {error}"
            await self._end(taken, ActionStatus.FAILED, None, text)
        else:
            if answer is not None:
                status, text = answer[0], answer[1].decode(errors="replace")
                is_done = status < 300
                ended = ActionStatus.DONE if is_done else ActionStatus.FAILED
                await self._end(taken, ended, status, text)

    async def _ask(self, gate: Gate, taken: Taken) -> tuple[int, bytes] | None:
        """The device's answer; None: the action is somebody else's by now."""
        target = device_requests.target_of(self._vault, taken.device)
        path, body = request_of(taken.action, dict(taken.parameters), taken.application_id)
        request = device_requests.request_of(path, "POST", body, target.key)
        async with tunnel.opened(target.server, target.uuid, gate) as way:
            if not await self._surely(lambda s: actions.sent(s, taken.id, self._name)):
                return None
            # Also of an answer that begins and does not end: it would hold a place for ever.
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await device_requests.whole(await way.ask(request, ANSWER_SECONDS))
            except TimeoutError as error:
                raise NoAnswerError(f"it did not answer within {ANSWER_SECONDS:.0f} s") from error

    async def _end(self, taken: Taken, status: ActionStatus, code: int | None, text: str) -> None:
        result = {"status": code, "text": text.strip()[:MAX_TEXT].replace("\0", "")}

        def end(session: Session) -> None:
            if actions.end(session, taken.id, self._name, status, result):
                note_end(session, [taken.id], status)

        await self._surely(end)
        log.info("action %d (%s): %s", taken.id, taken.action, status)

    async def _put_back(self, taken: Taken, why: str) -> None:
        seconds = min(FIRST_PAUSE * 2 ** min(taken.tries, 10), LONGEST_PAUSE)
        result = {"status": None, "text": why[:MAX_TEXT]}
        pause = timedelta(seconds=seconds)
        await self._surely(lambda s: actions.put_back(s, taken.id, self._name, result, pause))

    async def _surely(self, work: Callable[[Session], T]) -> T:
        """As a transaction; tried until the database takes it."""
        while True:
            try:
                return await self._in_transaction(work)
            except SQLAlchemyError as error:
                log.warning("noting an action failed, trying again: %s", reason(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _in_transaction(self, work: Callable[[Session], T]) -> T:
        def within() -> T:
            with self._database.transaction() as session:
                return work(session)

        return await run_in_threadpool(within)

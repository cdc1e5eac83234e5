"""Runs one simulation in a process of its own, which may be killed.

The process is forked from a server that has this module loaded, so `opentrons`, whose import takes
a Raspberry Pi many seconds, is imported once.
"""

import io
import os
import traceback
from multiprocessing.connection import Connection
from typing import Any

from opentrons import simulate


def run(answers: Connection, content: bytes, name: str) -> None:
    """Simulates the protocol and sends `("done", run log)` or `("failed", kind, message)`."""
    os.setsid()  # What the protocol starts is ended with it.
    try:
        runlog, _bundle = simulate.simulate(io.BytesIO(content), name)
        answers.send(("done", [_entry(each) for each in runlog]))
    except BaseException as error:  # A protocol may raise anything, SystemExit too.
        answers.send(("failed", type(error).__name__, _message(error)))


def warm_up(answers: Connection) -> None:
    """Does nothing: it is there to start the server that later processes are forked from."""
    answers.send(("done", []))


def _entry(entry: Any) -> dict[str, Any]:
    return {
        "level": entry["level"],
        "text": entry["payload"].get("text", ""),
        "logs": [record.getMessage() for record in entry["logs"]],
    }


def _message(error: BaseException) -> str:
    """The error's own words; of those that bear a list of occurrences, the occurrences' words."""
    occurrences = error.args[0] if error.args else None
    if isinstance(occurrences, list) and all(hasattr(each, "detail") for each in occurrences):
        return "; ".join(str(each.detail) for each in occurrences)
    return "".join(traceback.format_exception_only(error)).strip()

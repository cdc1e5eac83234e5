"""Steps as people read them: a coloured diff without secrets, and a live view of what runs."""

import difflib
import threading
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gantry.deployment.engine.builtin import Result
from gantry.deployment.engine.executor import Reporter
from gantry.deployment.engine.plan import Change, Op, Step, describe
from gantry.deployment.engine.values import UNKNOWN, mask
from gantry.deployment.progress import duration

SIGNS = {
    Op.CREATE: ("+", "green"),
    Op.UPDATE: ("~", "yellow"),
    Op.REPLACE: ("±", "magenta"),
    Op.DELETE: ("-", "red"),
    Op.FORGET: ("⊝", "cyan"),
    Op.SAME: (" ", "dim"),
}
WIDTH = 80
# Of a text with more than one.
LINES = 10


def diff(steps: Iterable[Step], details: bool = True) -> list[Text]:
    """A line a step that changes something, and one for each property that differs."""
    lines: list[Text] = []
    for step in steps:
        if step.op is Op.SAME:
            continue
        lines.append(_headline(step))
        if details and step.op in (Op.UPDATE, Op.REPLACE):
            for change in step.changes:
                lines += _change(change, step.replaces)
    return lines


DONE = {
    Op.CREATE: "created",
    Op.UPDATE: "updated",
    Op.REPLACE: "replaced",
    Op.DELETE: "deleted",
    Op.FORGET: "kept, but forgotten",
    Op.SAME: "unchanged",
}


def summary(result: Result, done: bool) -> Text:
    """`3 created, 1 replaced, 12 unchanged (4.2 s)`, or that nothing changes."""
    counts = {op: sum(step.op is op for step in result.steps) for op in Op}
    took = f" ({duration(result.seconds)})"
    if not result.changes:
        return Text(f"no change: {counts[Op.SAME]} resources are as they should be{took}")
    parts = [f"{counts[op]} {word}" for op, word in DONE.items() if counts[op]]
    return Text(("" if done else "would be: ") + ", ".join(parts) + took, "bold")


def _headline(step: Step) -> Text:
    sign, style = SIGNS[step.op]
    why = f" ({', '.join(step.replaces)})" if step.replaces else ""
    why += f" ({step.reason})" if step.reason else ""
    return Text(f"{sign} {describe(step)}  {step.op}{why}", style)


def _change(change: Change, replaces: tuple[str, ...]) -> list[Text]:
    forced = " [replaces]" if change.path.split(".")[0].split("[")[0] in replaces else ""
    old, new = change.old, change.new
    if isinstance(old, str) and isinstance(new, str) and "\n" in old + new:
        head = Text(f"    {change.path}:{forced}", "dim")
        return [head, *(Text(f"      {_cut(each)}", "dim") for each in _lines(old, new))]
    return [Text(f"    {change.path}: {_short(old)} => {_short(new)}{forced}", "dim")]


def _lines(old: str, new: str) -> list[str]:
    """The lines of a text that go and that come: `- …`, `+ …`; of many the first."""
    # After the names of two files, which have none.
    compared = [*difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)][2:]
    found = [f"{each[0]} {each[1:].expandtabs(4)}" for each in compared if each[0] in "-+"]
    more = len(found) - LINES
    return found if more <= 0 else [*found[:LINES], f"… and {more} more lines"]


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _short(value: Any) -> str:
    return _cut(_plain(mask(value)).replace(UNKNOWN, "(known after it is made)"))


def _plain(value: Any, within: bool = False) -> str:
    """A value as people write it: `hostPath /dev/net/tun, permissions rwm`; braces only `within`
    another value."""
    match value:
        case None:
            return "(none)"
        case bool():
            return str(value).lower()
        case dict():
            text = ", ".join(f"{name} {_plain(each, True)}" for name, each in value.items())
            return f"{{{text}}}" if within or not text else text
        case list():
            text = ", ".join(_plain(each, True) for each in value)
            return f"[{text}]"
        case "":
            return '""'
        case _:
            return str(value)


class ConsoleReporter(Reporter):
    """Prints each step when it ends; on a terminal, shows those that run with their seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Step, float]] = {}
        self._live = Live(get_renderable=self._view, console=console, transient=True)

    def __enter__(self) -> "ConsoleReporter":
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, step: Step) -> None:
        with self._lock:
            self._running[f"{step.op}{step.urn}"] = (step, time.monotonic())
        if not self._console.is_terminal:
            self._console.print(Text.assemble(_headline(step), " …"))

    def end(self, step: Step, seconds: float, error: str | None) -> None:
        with self._lock:
            self._running.pop(f"{step.op}{step.urn}", None)
        outcome = Text(" failed", "bold red") if error else Text(" done", "dim")
        for line in diff([step])[1:]:
            self._console.print(line)
        self._console.print(Text.assemble(_headline(step), outcome, f" {duration(seconds)}"))

    def message(self, severity: str, text: str) -> None:
        style = {"warning": "yellow", "error": "red"}.get(severity, "")
        self._console.print(Text(text if severity == "info" else f"{severity}: {text}", style))

    def _view(self) -> Group:
        with self._lock:
            running = list(self._running.values())
        now = time.monotonic()
        lines = [Text.assemble(_headline(s), f" … {duration(now - since)}") for s, since in running]
        return Group(*lines)

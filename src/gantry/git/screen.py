"""What the pusher reads. Git puts `remote: ` before each line and colours those that begin with
`error`, `warning`, `hint` or `success` where the terminal takes colours; so we send none ourselves.
"""

import re
import threading
from collections.abc import Iterator
from typing import TextIO

from gantry.contracts.build import BuildMessage, BuildResult, Phase

# CSI and OSC sequences, other escapes, then the control characters that are left.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.?")
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
_MAX_LINE = 4000


class Screen:
    """Whole lines to one stream, at once; threads may share it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def line(self, text: str = "") -> None:
        """Writes one line."""
        with self._lock:
            self._stream.write(text + "\n")
            self._stream.flush()

    def show(self, message: BuildMessage) -> None:
        """Writes a message of the builder."""
        for text in format_message(message):
            self.line(text)

    def error(self, sentence: str) -> None:
        """Writes why the push is refused."""
        for number, text in enumerate(clean(sentence)):
            self.line(text if number else f"error: {text}")


def clean(text: str) -> list[str]:
    """`text` as lines without control characters; of a line redrawn with \\r, what was last."""
    lines = []
    for raw in text.rstrip().split("\n"):
        shown = _ESCAPES.sub("", raw).rstrip("\r").rsplit("\r", 1)[-1]
        shown = _CONTROLS.sub("", shown).rstrip()
        lines.append(shown if len(shown) <= _MAX_LINE else shown[:_MAX_LINE] + " …")
    return lines


def format_message(message: BuildMessage) -> Iterator[str]:
    """`build   web | text`: phase, service if there is one, `!` in place of `|` for errors."""
    bar = "!" if message.is_error else "|"
    service = f"{message.service} " if message.service else ""
    for text in clean(message.message):
        yield f"{message.phase:<8}{service}{bar} {text}".rstrip()


def format_summary(result: BuildResult, slug: str, branch: str, total: float) -> Iterator[str]:
    """The table of a release; `total` is the whole push so far, in seconds."""
    yield ""
    release = "" if result.release_id is None else str(result.release_id)
    yield f"success: release {release or result.commit[:7]} of {slug}: its devices download it now"
    rows = [
        ("commit", f"{result.commit} ({branch})"),
        ("release", release),
        ("services", ", ".join(result.services)),
        ("size", format_size(result.size)),
    ]
    known = [str(phase) for phase in Phase if phase in result.seconds]
    others = [name for name in result.seconds if name not in known]
    rows += [(name, format_seconds(result.seconds[name])) for name in [*known, *others]]
    rows.append(("total", format_seconds(total)))
    for name, value in rows:
        if value:
            yield f"  {name:<10}{value}"
    yield ""


def format_size(size: int) -> str:
    """Bytes in decimal units, as registries count: `0 B`, `12.3 MB`."""
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def format_seconds(seconds: float) -> str:
    """`4.2 s` or `2 min 5 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"

"""What BuildKit says, as lines for people.

`docker buildx build --progress=rawjson` writes BuildKit's SolveStatus as JSON objects
(https://github.com/moby/buildkit/blob/v0.13.1/client/graph.go); buildx 0.13 indents them, newer
ones write one a line. What is not JSON is buildx's own text, an error at the end.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

_TAIL_LINES = 30
_QUIET = ("[internal]", "naming to ", "exporting layers", "writing image ")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a build's output."""

    text: str
    is_error: bool = False


@dataclass
class Transcript:
    """Fed with the lines of one build; gives those for people, and knows why it failed."""

    _pending: list[str] = field(default_factory=list)
    _announced: set[str] = field(default_factory=set)
    _failed: set[str] = field(default_factory=set)
    _names: dict[str, str] = field(default_factory=dict)
    _partial: dict[tuple[str, int], bytes] = field(default_factory=dict)
    _plain: list[str] = field(default_factory=list)
    _error: str | None = None

    def feed(self, line: str) -> list[Line]:
        """Take a line of buildx without its newline."""
        if self._pending or line == "{":
            self._pending.append(line)
            if line != "}":
                return []
            text = "\n".join(self._pending)
            self._pending.clear()
            return self._status(text)
        if line.startswith('{"'):
            return self._status(line)
        if line.strip():
            self._plain = [*self._plain[1 - _TAIL_LINES :], line]
        return []

    def finish(self) -> list[Line]:
        """What was written without a newline at the end."""
        lines = [
            Line(text.decode("utf-8", "replace"), stream == 2)
            for (_, stream), text in self._partial.items()
            if text
        ]
        self._partial.clear()
        return lines

    def failure(self) -> str:
        """Why the build failed, in one line."""
        if self._error:
            return self._error
        errors = [each for each in self._plain if each.startswith("ERROR: ")]
        text = errors[-1] if errors else (self._plain[-1] if self._plain else "no reason was given")
        return text.removeprefix("ERROR: ").removeprefix("failed to solve: ")

    def _status(self, text: str) -> list[Line]:
        try:
            status = json.loads(text)
        except ValueError:
            self._plain = [*self._plain[1 - _TAIL_LINES :], *text.splitlines()][-_TAIL_LINES:]
            return []
        lines: list[Line] = []
        for vertex in status.get("vertexes") or ():
            lines += self._vertex(vertex)
        for entry in status.get("logs") or ():
            lines += self._log(entry)
        for warning in status.get("warnings") or ():
            short = base64.b64decode(warning.get("short") or "").decode("utf-8", "replace")
            lines.append(Line(f"warning: {short}"))
        return lines

    def _vertex(self, vertex: dict[str, Any]) -> list[Line]:
        digest, name = vertex["digest"], vertex.get("name", "")
        self._names[digest] = name
        error = vertex.get("error")
        if error and digest not in self._failed:
            self._failed.add(digest)
            self._announced.add(digest)
            if "context canceled" in error:
                return []
            self._error = self._error or f"{name}: {error}"
            return [Line(f"{name}: {error}", is_error=True)]
        if name.startswith(_QUIET) or not vertex.get("started"):
            return []
        # What is taken from the cache says so as it starts: often nothing more of it is seen.
        if digest in self._announced:
            return []
        self._announced.add(digest)
        return [Line(f"{name} (cached)" if vertex.get("cached") else name)]

    def _log(self, entry: dict[str, Any]) -> list[Line]:
        stream = int(entry.get("stream", 1))
        key = (entry["vertex"], stream)
        data = self._partial.pop(key, b"") + base64.b64decode(entry.get("data") or "")
        *whole, rest = data.split(b"\n")
        if len(rest) > 8192:
            whole, rest = [*whole, rest], b""
        if rest:
            self._partial[key] = rest
        return [
            # A carriage return draws a progress bar anew: its last state is the line.
            Line(each.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace"), stream == 2)
            for each in whole
        ]

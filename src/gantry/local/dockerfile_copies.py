"""What a Dockerfile takes from its context, and whether more follows from it. Pure.

Instructions: https://docs.docker.com/reference/dockerfile/. It is read as far as live sync needs:
what it does not understand becomes a copy that is not `plain`, for which all is built anew.
"""

import json
import posixpath
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

_HEREDOC = re.compile(r"<<-?\s*([\"']?)(\w+)\1")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^}]*))?\}|(\w+))")
_BIND = re.compile(r"--mount=(\S+)")
_ARCHIVE = re.compile(r"\.(tar|tgz|tbz2?|txz|tar\.\w+)$")


@dataclass(frozen=True, slots=True)
class Copy:
    """An instruction that takes files of the context.

    `destination` is absolute, with `/` at its end where it must be a folder. `plain`: the files
    lie in the image as they are here, and no instruction after it makes anything of them.
    """

    sources: tuple[str, ...]
    destination: str
    plain: bool = True

    def place(self, path: str) -> tuple[str, bool] | None:
        """Where the context's file `path` lies in the image, and whether that is certain; None
        when this instruction does not take it. Not certain: the destination may be a folder."""
        for source in self.sources:
            rest = _matched(source, path)
            if rest is None:
                continue
            if rest:
                return posixpath.join(self.destination, rest), True
            is_folder = self.destination.endswith("/") or len(self.sources) > 1
            if is_folder or _is_pattern(source):
                return posixpath.join(self.destination, posixpath.basename(path)), True
            return self.destination, False
        return None


def copies(text: str, target: str | None, working_dir: str) -> tuple[Copy, ...]:
    """The copies of a Dockerfile. `target` is the stage that is built, the last by default;
    `working_dir` is the built image's.
    """
    stages = list(_stages(text))
    if not stages:
        return ()
    wanted = next((each for each in stages if target and each.name == target), stages[-1])
    found: list[Copy] = []
    for stage in stages:
        if stage is wanted:
            found += stage.copies(working_dir)
        else:
            # A later stage may take what this one made of it.
            found += [replace(each, plain=False) for each in stage.copies("/")]
    return tuple(found)


class _Stage:
    """The instructions of one stage."""

    def __init__(self, name: str | None, variables: dict[str, str]) -> None:
        self.name = name
        self._copies: list[Copy] = []
        self._working_dir: str | None = None
        self._variables = dict(variables)
        self._moves = False

    def copies(self, working_dir: str) -> list[Copy]:
        """With relative destinations resolved: without WORKDIR, it is the image's."""
        found = []
        for each in self._copies:
            if not posixpath.isabs(each.destination):
                each = replace(
                    each,
                    destination=_joined(working_dir or "/", each.destination),
                    plain=each.plain and not self._moves,
                )
            found.append(each)
        return found

    def add(self, keyword: str, rest: str) -> None:
        """Take an instruction."""
        if keyword in ("ENV", "ARG"):
            self._define(rest, keyword == "ENV")
        elif keyword == "WORKDIR":
            path = self._filled(rest.strip().strip("\"'"))
            if path is None:
                self._moves = True
            elif posixpath.isabs(path) or self._working_dir is not None:
                self._working_dir = posixpath.join(self._working_dir or "/", path)
            else:
                self._moves = True
        elif keyword == "RUN":
            self._copies = [replace(each, plain=False) for each in self._copies]
            self._add_mounts(rest)
        elif keyword in ("COPY", "ADD"):
            self._add_copy(keyword, rest)

    def _add_mounts(self, rest: str) -> None:
        for mount in _BIND.findall(rest):
            fields = dict(each.partition("=")[::2] for each in mount.split(","))
            if fields.get("type", "bind") == "bind" and "from" not in fields:
                source = fields.get("source") or fields.get("src") or "."
                self._copies.append(Copy((source,), "/", plain=False))

    def _add_copy(self, keyword: str, rest: str) -> None:
        options, words = _words(rest)
        if any(each.startswith("--from=") for each in options) or len(words) < 2:
            return
        *sources, destination = words
        sources = [each for each in sources if "://" not in each and not each.startswith("<<")]
        if not sources:
            return
        plain = not any(each.partition("=")[0] != "--link" for each in options)
        filled = [self._filled(each) for each in (*sources, destination)]
        if None in filled:
            self._copies.append(Copy((".",), "/", plain=False))
            return
        *taken, place = (each or "" for each in filled)
        if keyword == "ADD" and any(_ARCHIVE.search(each) for each in taken):
            plain = False
        if not posixpath.isabs(place) and self._working_dir is not None:
            place = _joined(self._working_dir, place)
        self._copies.append(Copy(tuple(_normal(each) for each in taken), place, plain))

    def _define(self, rest: str, all_on_line: bool) -> None:
        try:
            words = shlex.split(rest)
        except ValueError:
            return
        if all_on_line and words and "=" not in words[0]:
            words = [f"{words[0]}={' '.join(words[1:])}"]
        for word in words:
            name, equals, value = word.partition("=")
            filled = self._filled(value)
            if equals and filled is not None:
                self._variables.setdefault(name, filled)
                if all_on_line:
                    self._variables[name] = filled

    def _filled(self, text: str) -> str | None:
        """With variables replaced; None where one is not known here."""
        unknown = False

        def value(match: re.Match[str]) -> str:
            nonlocal unknown
            name, default = match[1] or match[3], match[2]
            if name not in self._variables and default is None:
                unknown = True
                return ""
            return self._variables.get(name, default or "")

        found = _VARIABLE.sub(value, text)
        return None if unknown else found


def _stages(text: str) -> Iterator[_Stage]:
    stage: _Stage | None = None
    outer = _Stage(None, {})
    for keyword, rest in _instructions(text):
        if keyword == "FROM":
            if stage is not None:
                yield stage
            match = re.search(r"\sAS\s+(\S+)", rest, re.IGNORECASE)
            stage = _Stage(match[1] if match else None, {})
        else:
            (stage or outer).add(keyword, rest)
    if stage is not None:
        yield stage


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction with what follows it, its continued lines joined, heredocs left out."""
    waiting: list[str] = []
    ends: list[str] = []
    for line in text.splitlines():
        if ends:
            if line.strip() == ends[0]:
                del ends[0]
            continue
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        waiting.append(stripped.removesuffix("\\"))
        if stripped.endswith("\\"):
            continue
        keyword, _, rest = " ".join(waiting).partition(" ")
        waiting.clear()
        if keyword.upper() in ("RUN", "COPY", "ADD"):
            ends = [match[1] for match in _HEREDOC.findall(rest)]
        yield keyword.upper(), rest.strip()


def _words(rest: str) -> tuple[list[str], list[str]]:
    """Options and words of a COPY, in both of its forms."""
    options = []
    while rest.startswith("--"):
        option, _, rest = rest.partition(" ")
        options.append(option)
        rest = rest.strip()
    try:
        words = json.loads(rest) if rest.startswith("[") else shlex.split(rest)
    except ValueError:
        words = rest.split()
    return options, [str(each) for each in words]


def _joined(folder: str, place: str) -> str:
    """`place` in `folder`; a `/` at the end says that it is a folder."""
    slash = "/" if place.endswith(("/", "/.")) or place == "." else ""
    return posixpath.normpath(posixpath.join(folder, place)).rstrip("/") + slash


def _normal(source: str) -> str:
    return posixpath.normpath(source.lstrip("/") or ".")


def _is_pattern(source: str) -> bool:
    return any(each in source for each in "*?[")


def _matched(source: str, path: str) -> str | None:
    """What of `path` lies below `source`: all of it for `.`, nothing when it is `source` itself;
    None when it is not taken."""
    if source == ".":
        return path
    parts = path.split("/")
    depth = source.count("/") + 1
    if len(parts) < depth or not _pattern(source).fullmatch("/".join(parts[:depth])):
        return None
    return "/".join(parts[depth:])


def _pattern(source: str) -> re.Pattern[str]:
    """Go's filepath.Match: `*` and `?` stop at a slash."""
    pieces = re.split(r"(\*+|\?|\[[^\]]*\])", source)
    found = ""
    for each in pieces:
        if each.startswith("*"):
            found += "[^/]*"
        elif each == "?":
            found += "[^/]"
        elif each.startswith("[") and each.endswith("]"):
            found += "[^" + each[2:] if each.startswith("[^") else each
        else:
            found += re.escape(each)
    return re.compile(found)

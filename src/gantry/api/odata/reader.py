"""A position that moves through the text of one option."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gantry.api.odata.errors import ODataError, Place

# What one request may ask for, in all its options.
MAX_NODES = 2_000
MAX_DEPTH = 40

_BLANKS = re.compile(r"\s*")
NAME = re.compile(r"[^\W\d]\w{0,127}")


@dataclass
class Budget:
    """How many parts the options of one request may still have."""

    nodes: int = MAX_NODES


@dataclass
class Reader:
    """Reads one option; `aliases` are the request's parameter aliases (`@name=value`)."""

    option: str
    text: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    position: int = 0
    depth: int = 0
    levels: int = 0

    def place(self) -> Place:
        """Where the reader stands."""
        return Place(self.option, self.text, self.position)

    def error(self, why: str) -> ODataError:
        """What is wrong here."""
        return self.place().error(why)

    def spend(self) -> Place:
        """The place of one more part.

        Raises:
            ODataError: it is one too many.
        """
        self.budget.nodes -= 1
        if self.budget.nodes < 0:
            raise self.error(f"the options have more than {MAX_NODES} parts in all")
        return self.place()

    def deeper(self) -> None:
        """One level down; whoever calls this takes it back from `depth`.

        Raises:
            ODataError: it is one too deep.
        """
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"it is nested more than {MAX_DEPTH} levels deep")

    def skip(self) -> None:
        """Over blanks."""
        found = _BLANKS.match(self.text, self.position)
        if found is not None:
            self.position = found.end()

    def at_end(self) -> bool:
        """Whether only blanks follow."""
        self.skip()
        return self.position >= len(self.text)

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What is next, if it is of this pattern; the reader then stands behind it."""
        found = pattern.match(self.text, self.position)
        if found is not None:
            self.position = found.end()
        return found

    def accept(self, token: str) -> bool:
        """Over `token`, if it is next."""
        if not self.text.startswith(token, self.position):
            return False
        self.position += len(token)
        return True

    def expect(self, token: str) -> None:
        """Over blanks and `token`.

        Raises:
            ODataError: something else is next.
        """
        self.skip()
        if not self.accept(token):
            raise self.error(self.unexpected(f"`{token}` is missing"))

    def unexpected(self, why: str) -> str:
        """The reason, or that the text ends too early."""
        return f"it ends too early: {why}" if self.position >= len(self.text) else why

    def end(self) -> None:
        """The option must end here.

        Raises:
            ODataError: something follows.
        """
        if not self.at_end():
            raise self.error("this is not expected here")

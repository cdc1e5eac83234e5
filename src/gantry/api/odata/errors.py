"""A URL that the resource model cannot serve: always 400, with the place and the reason."""

from collections.abc import Iterable
from dataclasses import dataclass

from gantry.api.errors import BadRequestError

EXCERPT = 24


class ODataError(BadRequestError):
    """What is wrong in which option, and where; positions count characters from 0."""

    def __init__(self, option: str, text: str, position: int, why: str) -> None:
        self.position = position
        excerpt = text[position : position + EXCERPT]
        place = f"at position {position} ({excerpt!r})" if excerpt else "at its end"
        super().__init__(f"{option} is not valid {place}: {why}")


@dataclass(frozen=True, slots=True)
class Place:
    """A position in the text of an option."""

    option: str
    text: str
    position: int

    def error(self, why: str) -> ODataError:
        """What is wrong here."""
        return ODataError(self.option, self.text, self.position, why)


def unknown_name(place: Place, name: str, owner: str, known: Iterable[str]) -> ODataError:
    """A field, navigation or function that does not exist."""
    return place.error(f"{owner} has no {name[:60]!r}; it has {', '.join(sorted(known))}")

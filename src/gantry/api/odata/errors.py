"""A URL that the resource model cannot serve: always 400, with the place and the reason."""

from gantry.api.errors import BadRequestError


class ODataError(BadRequestError):
    """What is wrong in which option, and where; positions count characters from 0."""

    def __init__(self, option: str, text: str, position: int, why: str) -> None:
        self.position = position
        excerpt = text[position : position + 24]
        place = f"at position {position} ({excerpt!r})" if excerpt else "at its end"
        super().__init__(f"{option} is not valid {place}: {why}")


def unknown_name(option: str, text: str, name: str, resource: str, known: list[str]) -> ODataError:
    """A field or navigation that does not exist."""
    position = max(text.find(name), 0)
    return ODataError(
        option,
        text,
        position,
        f"{resource} has no {name[:60]!r}; it has {', '.join(known)}",
    )

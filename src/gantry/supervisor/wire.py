"""Reading of JSON that others wrote: the right type, or an error that says where and what."""

import json
import re
from collections.abc import Mapping
from typing import Any

_WHOLE = re.compile(r"-?\d{1,19}", re.ASCII)


class WireError(ValueError):
    """A document from outside is not of the form that it should have."""


def parse(text: str | bytes, where: str) -> dict[str, Any]:
    """The JSON object in this text.

    Raises:
        WireError: it is not JSON, or no object.
    """
    try:
        return mapping(json.loads(text), where)
    except WireError:
        raise
    except (ValueError, RecursionError) as error:
        raise WireError(f"{where} is not valid JSON: {error}") from error


def mapping(value: object, where: str) -> dict[str, Any]:
    """An object; null counts as an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise WireError(f"{where} is {value!r:.80}: an object is expected")
    return value


def text(value: object, where: str) -> str:
    """A string that is not empty; numbers are accepted, since the family writes ids both ways."""
    if isinstance(value, str) and value:
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise WireError(f"{where} is {value!r:.80}: a text is expected")


def number(value: object, where: str) -> int:
    """A whole number of 64 bits, given as number or as string."""
    found: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        found = value
    elif isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        found = int(value)
    if found is None or abs(found) >= 2**63:
        raise WireError(f"{where} is {value!r:.80}: a whole number is expected")
    return found


def flag(value: object, default: bool = False) -> bool:
    """True for the ways in which the family writes yes."""
    if value is None:
        return default
    return value is True or str(value).strip().lower() in {"1", "true", "on", "yes"}


def scalar(value: object) -> str:
    """A variable's or label's value as the text that a container sees."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def texts(value: object, where: str) -> dict[str, str]:
    """A mapping of texts, given as an object or as a list of `KEY=value`."""
    if isinstance(value, list):
        pairs = (str(each).partition("=") for each in value)
        return {key: content for key, _, content in pairs}
    return {str(key): scalar(content) for key, content in mapping(value, where).items()}


def canonical(document: Mapping[str, Any]) -> str:
    """JSON that is the same for equal documents."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"))

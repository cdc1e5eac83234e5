"""The names that may appear in a login or in a repository's path. Nothing else is let through."""

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

RESERVED = frozenset({"root"})
"""Names of the image's own accounts. `_gantry` is no platform name: it begins with a `_`."""


def is_name(text: str) -> bool:
    """Whether `text` can be a user's or an application's name: a safe word of ASCII.

    It holds no `/`, no quote, no `:` and no control character, and is neither `..` nor an option,
    so it is safe in a passwd file, in an authorized_keys line and in a path.
    """
    return _NAME.fullmatch(text) is not None and ".." not in text


def is_account(text: str) -> bool:
    """Whether the platform's user `text` can have an account on this server."""
    return is_name(text) and len(text) <= 64 and text not in RESERVED

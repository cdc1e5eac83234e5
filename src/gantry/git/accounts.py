"""The platform's users as accounts of this container: libnss-extrausers entries of one uid.

sshd, which is not root, can only log people in to its own uid; so all of them have it. Who is who
is carried by the forced command that the AuthorizedKeysCommand gives out.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx2

from gantry.git.names import is_account

UID = 10001
LOGIN_SHELL = "/usr/lib/gantry/git-shell"


class AccountsError(Exception):
    """The api did not give the accounts."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """What the api last said: the names, and the ETag to ask with again."""

    names: tuple[str, ...] = ()
    etag: str | None = None


def render_passwd(names: Iterable[str]) -> str:
    """The passwd(5) lines of the accounts. Names that cannot be accounts are left out."""
    usable = sorted({name for name in names if is_account(name)})
    return "".join(f"{name}:x:{UID}:{UID}::/:{LOGIN_SHELL}\n" for name in usable)


def unusable(names: Iterable[str]) -> list[str]:
    """The names that `render_passwd` leaves out."""
    return sorted({name for name in names if not is_account(name)})


def write_atomically(path: Path, text: str) -> None:
    """Replaces `path`: a login reads the old file or the new one, never half of one."""
    scratch = path.with_name(f".{path.name}.new")
    scratch.write_text(text)
    scratch.chmod(0o644)
    os.replace(scratch, path)


def fetch_accounts(client: httpx2.Client, known: Accounts) -> Accounts:
    """The accounts as they are now; `known` itself when nothing has changed.

    Raises:
        AccountsError: the api does not answer, or not with a list of names.
    """
    headers = {"If-None-Match": known.etag} if known.etag else {}
    try:
        response = client.get("/services/git/accounts", headers=headers)
        if response.status_code == 304:
            return known
        response.raise_for_status()
        names = response.json()
    except (httpx2.HTTPError, ValueError) as error:
        raise AccountsError(f"{type(error).__name__}: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AccountsError(f"not a list of names: {str(names)[:80]}")
    return Accounts(tuple(names), response.headers.get("etag"))

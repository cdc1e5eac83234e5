"""Passwords and codes: asked for at the terminal, or read from a file; never arguments."""

import getpass
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gantry.client.errors import ClientError, UsageError

CODE_VARIABLE = "GANTRY_CODE"

PasswordFile = Annotated[
    Path | None, typer.Option(help="Read the password there; - is the standard input.")
]
CodeFile = Annotated[
    Path | None,
    typer.Option(
        help="Read the second factor's code there; - is the standard input, after the password. "
        f"Default: what {CODE_VARIABLE} holds."
    ),
]


def password_of(file: Path | None, username: str, fleet: str) -> str:
    """The password of an account, from `file` or the terminal.

    Raises:
        UsageError: neither is there.
        ClientError: the file cannot be read, or is empty.
    """
    return _secret(file, f"password of {username} at {fleet}", "password", "--password-file")


def new_password_of(file: Path | None) -> str:
    """A new password; at the terminal it is asked for twice.

    Raises:
        UsageError, ClientError: as `password_of`; or the two are not the same.
    """
    new = _secret(file, "new password", "new password", "--new-password-file")
    if file is None and getpass.getpass("new password again: ") != new:
        raise UsageError("the two are not the same: nothing was changed")
    return new


def code_of(file: Path | None) -> str:
    """A code of the authenticator, or a recovery code: from `file`, GANTRY_CODE or the terminal.

    Raises:
        UsageError, ClientError: as `password_of`.
    """
    if file is None and (given := os.environ.get(CODE_VARIABLE)):
        return given
    asked = "code of your authenticator (or a recovery code)"
    return _secret(file, asked, "second factor's code", f"--code-file or {CODE_VARIABLE}")


def _secret(file: Path | None, question: str, what: str, option: str) -> str:
    if file is None:
        if not sys.stdin.isatty():
            raise UsageError(f"no terminal to ask for the {what}: use {option} (- is stdin)")
        return getpass.getpass(f"{question}: ")
    try:
        # One line of stdin each: several secrets may come that way.
        text = sys.stdin.readline() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ClientError(f"{file}: the {what} cannot be read: {error}") from error
    lines = text.splitlines()
    if not lines or not lines[0]:
        raise ClientError(f"{file}: holds no {what}")
    return lines[0]

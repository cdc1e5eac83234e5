"""What a client may ask for over SSH: two git commands on `owner/application.git`."""

import re
from dataclasses import dataclass
from enum import StrEnum

from gantry.git.names import is_name

MAX_COMMAND = 1024
ONLY_GIT = "this server only takes git push and git pull"


class Action(StrEnum):
    """What the api is asked about."""

    PULL = "pull"
    PUSH = "push"


@dataclass(frozen=True, slots=True)
class GitCommand:
    """A push to or a pull from one application's repository."""

    action: Action
    owner: str
    application: str

    @property
    def slug(self) -> str:
        """`owner/application`."""
        return f"{self.owner}/{self.application}"


class RefusedError(Exception):
    """The command is not served. The message is a sentence for the client."""


_ACTIONS = {
    "git-receive-pack": Action.PUSH,
    "git receive-pack": Action.PUSH,
    "git-upload-pack": Action.PULL,
    "git upload-pack": Action.PULL,
}
# Git quotes the path with '…'; other clients send it bare. No backslash, no second word.
_COMMAND = re.compile(r"(git[- ][a-z-]+) (?:'([^'\\]*)'|([^\s'\"\\]+))", re.ASCII)


def parse_command(text: str) -> GitCommand:
    """The command in SSH_ORIGINAL_COMMAND.

    Raises:
        RefusedError: anything but a push or a pull of `owner/application.git`.
    """
    if len(text) > MAX_COMMAND:
        raise RefusedError(f"that command is too long: {ONLY_GIT}.")
    if text.startswith("git-lfs-"):
        raise RefusedError("Git LFS is not offered: commit the files themselves.")
    match = _COMMAND.fullmatch(text)
    action = _ACTIONS.get(match[1]) if match else None
    if match is None or action is None:
        raise RefusedError(f"{_quote(text)} is not offered: {ONLY_GIT}.")
    return _with_path(action, match[2] if match[2] is not None else match[3])


def _with_path(action: Action, path: str) -> GitCommand:
    words = path.removeprefix("/").split("/")
    if len(words) == 2:
        owner, application = words[0], words[1].removesuffix(".git")
        if is_name(owner) and is_name(application):
            return GitCommand(action, owner, application)
    raise RefusedError(
        f"{_quote(path)} is not a repository's name: it must be <user>/<application>.git."
    )


def _quote(text: str) -> str:
    """`text` for a terminal: bounded, with anything but printable ASCII escaped."""
    return ascii(text if len(text) <= 100 else text[:100] + "…")

"""What can go wrong, with the exit code that programs see and a sentence for people."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command ends with. Documented in docs/cli.md."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_AUTHORISED = 4
    UNREACHABLE = 5
    INTERRUPTED = 130


class ClientError(Exception):
    """The command cannot go on. The message says what was wrong and what to do."""

    code = ExitCode.FAILED


class UsageError(ClientError):
    """What was typed does not go together."""

    code = ExitCode.USAGE


class NotFoundError(ClientError):
    """There is no such thing, or not for this user."""

    code = ExitCode.NOT_FOUND


class NotAuthorisedError(ClientError):
    """Nobody is logged in, or this user may not."""

    code = ExitCode.NOT_AUTHORISED


class UnreachableError(ClientError):
    """The server does not answer, or not as it should."""

    code = ExitCode.UNREACHABLE

"""The login shell of every account: the forced command, and nothing else.

sshd runs it as `git-shell -c "gantry-git <username>"`; what the client asked for is in
SSH_ORIGINAL_COMMAND.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gantry.git import pushlock, repository, watch
from gantry.git.client import AnsweredError, UnreachableError, request
from gantry.git.command import Action, GitCommand, RefusedError, parse_command
from gantry.git.events import record
from gantry.git.keys import LOGIN_COMMAND
from gantry.git.names import is_account
from gantry.git.push import VARIABLE as PUSH_VARIABLE
from gantry.git.push import Push
from gantry.git.settings import REPOSITORIES, Settings, SettingsError, load_settings

TRY_AGAIN = "try again in a moment; if it lasts, tell the fleet's operator."


def say(text: str) -> None:
    """A line to the client, told apart from git's own."""
    sys.stderr.write(f"gantry: {text}\n")
    sys.stderr.flush()


def login_name(arguments: list[str]) -> str:
    """The user whom sshd let in, from the forced command.

    Raises:
        RefusedError: this is not sshd with our AuthorizedKeysCommand.
    """
    words = arguments[1].split(" ") if len(arguments) == 2 and arguments[0] == "-c" else []
    if len(words) != 2 or words[0] != LOGIN_COMMAND or not is_account(words[1]):
        raise RefusedError("this program is the login shell of the git server only.")
    return words[1]


def authorize(settings: Settings, username: str, command: GitCommand, started: float) -> Push:
    """Asks the api whether the user may.

    Raises:
        RefusedError: no, in the api's words, or there is no way to know.
    """
    question = {
        "username": username,
        "owner": command.owner,
        "application": command.application,
        "action": str(command.action),
    }
    path = "/services/git/authorize"
    try:
        answer = request(settings.api_url, "POST", path, settings.service_key, question)
        grant: dict[str, Any] = json.loads(answer)
        return Push(
            username=username,
            user_id=int(grant["user_id"]),
            application_id=int(grant["application_id"]),
            application_uuid=str(grant["application_uuid"]),
            slug=str(grant["slug"]),
            device_type=str(grant["device_type"]),
            started=started,
        )
    except AnsweredError as error:
        if error.status in (403, 404):
            raise RefusedError(error.sentence) from error
        record(f"authorize {username} {command.slug}: HTTP {error.status} {error}")
        raise RefusedError(f"the api cannot say whether you may: {TRY_AGAIN}") from error
    except UnreachableError as error:
        record(f"authorize {username} {command.slug}: {error}")
        raise RefusedError(f"the api does not answer: {TRY_AGAIN}") from error
    except (ValueError, KeyError, TypeError) as error:
        record(f"authorize {username} {command.slug}: not an answer: {error!r}")
        raise RefusedError(f"the api cannot say whether you may: {TRY_AGAIN}") from error


def serve(settings: Settings, username: str, folder: Path) -> int:
    """Carries out what the client asked for and returns the exit code.

    Raises:
        RefusedError, RepositoryError: it is not done.
    """
    started = time.monotonic()
    original = os.environ.get("SSH_ORIGINAL_COMMAND")
    if original is None:
        say(f"Hello {username}, you are logged in, but there is no shell here. To push:")
        remote = f"ssh://{username}@{settings.host}:{settings.git_port}/{username}"
        say(f"    git remote add {settings.fleet} {remote}/{settings.fleet}.git")
        say(f"    git push {settings.fleet} main")
        return 1
    command = parse_command(original)
    push = authorize(settings, username, command, started)
    path = repository.ensure_repository(folder, push.application_uuid)
    environment = repository.environment(os.environ)
    if command.action is Action.PULL:
        argv = repository.upload_pack(path)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - no shell is wanted
    max_bytes = min(settings.max_push_bytes, repository.check_space(folder))
    return _receive(max_bytes, push, path, environment)


def _receive(max_bytes: int, push: Push, path: Path, environment: dict[str, str]) -> int:
    lock = pushlock.open_lock(path)
    environment |= {PUSH_VARIABLE: push.dumps(), pushlock.VARIABLE: str(lock)}
    argv = repository.receive_pack(path, max_bytes)
    try:
        with repository.receiving(path):
            end = watch.run(argv, environment, keep=lock)
    finally:
        pushlock.release(lock)
    if end.cause is watch.Cause.CLIENT_GONE:
        record(f"push by {push.username} to {push.slug}: the client went away: stopped")
        return 1
    if end.cause is watch.Cause.STOPPED:
        say("the git server is going down, nothing was stored: push again in a moment.")
        return 1
    repository.settle_head(path)
    return end.code


def main() -> int:
    """Runs as the login shell."""
    try:
        return serve(load_settings(), login_name(sys.argv[1:]), REPOSITORIES)
    except (RefusedError, repository.RepositoryError) as error:
        say(str(error))
    except SettingsError as error:
        record(str(error))
        say(f"this git server is not set up: {TRY_AGAIN}")
    return 1

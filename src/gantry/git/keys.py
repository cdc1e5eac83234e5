"""sshd's AuthorizedKeysCommand: the keys of one user, asked of the api at each login.

So a key works from the moment it is added and no longer than until it is removed.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from gantry.git.client import AnsweredError, UnreachableError, request
from gantry.git.events import record
from gantry.git.names import is_account
from gantry.git.settings import Settings, SettingsError, load_settings

LOGIN_COMMAND = "gantry-git"

# Type and key alone: options or a comment that came with a key would be read by sshd.
_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)"
    r"|sk-ssh-ed25519@openssh\.com|sk-ecdsa-sha2-nistp256@openssh\.com)"
    r" +(AAAA[A-Za-z0-9+/]+={0,3})(?: .*)?"
)


def authorized_lines(username: str, keys: Iterable[str]) -> Iterator[str]:
    """Lines in authorized_keys(5) form that give `username` the forced command and nothing else."""
    for key in keys:
        match = _KEY.fullmatch(key.strip())
        if match:
            yield f'restrict,command="{LOGIN_COMMAND} {username}" {match[1]} {match[2]}'


def fetch_keys(settings: Settings, username: str) -> list[str]:
    """The user's public keys as the api has them, one a line.

    Raises:
        UnreachableError, AnsweredError: the api does not answer, or not with keys.
    """
    path = f"/auth/v1/public-keys/{quote(username, safe='')}"
    answer = request(settings.api_url, "GET", path, settings.service_key)
    return answer.decode(errors="replace").splitlines()


def main() -> int:
    """Prints the lines for the user named by the one argument (`%u` in sshd_config)."""
    username = sys.argv[1] if len(sys.argv) == 2 else ""
    if not is_account(username):
        return 1
    try:
        keys = fetch_keys(load_settings(), username)
    except (SettingsError, UnreachableError, AnsweredError) as error:
        record(f"login of {username}: no keys: {error}")
        return 1
    sys.stdout.writelines(line + "\n" for line in authorized_lines(username, keys))
    return 0

#!/usr/bin/python3 -I
"""ssh-fleet-keys FINGERPRINT: the fleet's word on who logs in through the tunnel with this key.

sshd's AuthorizedKeysCommand, as an unprivileged user. The api knows the keys of users and who may
reach this device now; it answers with the whole key, or that it is nobody's. It writes the login
down. No answer in time is no login: whoever stands beside the device has the operator's keys.

https://docs.python.org/3/library/syslog.html goes to the journal: sshd throws away what is said.
"""

import http.client
import json
import os
import re
import ssl
import sys
import syslog
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

FOLDER = Path(os.environ.get("GANTRY_SSH_FLEET", "/run/gantry/ssh-fleet"))
# In all, with looking up the name: a client waits for its login meanwhile.
SECONDS = 5.0
LARGEST = 64 * 1024
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
# Only a plain key: options before a key could run programs.
KEY = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+ [A-Za-z0-9+/]+=*(?= |$)")


class AnswerError(Exception):
    """The fleet did not say what it should; the message says what, and no secret."""


def ask(fingerprint: str, folder: Path = FOLDER) -> tuple[str, str] | None:
    """The whole key, as a line of authorized_keys, and its user's name; None if it is nobody's.

    Raises:
        AnswerError: nobody to ask, or no answer that can be used.
    """
    status, body = _get(fingerprint, folder)
    if status == 404:
        return None
    if status != 200:
        raise AnswerError(f"the api answered {status}, not 200 or 404")
    try:
        answer: Any = json.loads(body)
        user, line = str(answer["user"]), str(answer["line"])
    except (ValueError, KeyError, TypeError) as error:
        raise AnswerError("the api's answer has no user and line") from error
    key = KEY.match(line)
    if not key or "\n" in line or "\r" in line:
        raise AnswerError("the api's answer is no plain public key")
    return key[0], "".join(each for each in user if each.isprintable())[:100]


def _get(fingerprint: str, folder: Path) -> tuple[int, bytes]:
    try:
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise AnswerError(f"{error.filename}: {error.strerror}: not in a fleet yet?") from error
    api = urlsplit(settings["api"])
    authority = folder / "ca.crt"
    path = f"/device/v3/{settings['uuid']}/ssh-keys?fingerprint={quote(fingerprint, safe='')}"
    try:
        context = ssl.create_default_context(cafile=authority if authority.exists() else None)
        connection = http.client.HTTPSConnection(
            api.hostname or "", api.port, timeout=SECONDS, context=context
        )
        connection.request("GET", path, headers={"Authorization": f"Bearer {settings['key']}"})
        answer = connection.getresponse()
        return answer.status, answer.read(LARGEST)
    except (OSError, http.client.HTTPException) as error:
        reason = str(error) or type(error).__name__
        raise AnswerError(f"{settings['api']} does not answer: {reason}") from error


def say(fingerprint: str) -> int:
    """Ask, print the key for sshd, and write into the journal what came of it; the exit status."""
    try:
        found = ask(fingerprint)
    except AnswerError as error:
        syslog.syslog(syslog.LOG_WARNING, f"{fingerprint} may not log in: {error}")
        return 1
    if found is None:
        syslog.syslog(syslog.LOG_INFO, f"{fingerprint} may not log in: the fleet says nobody's")
        return 0
    line, user = found
    syslog.syslog(syslog.LOG_INFO, f"{fingerprint} of {user} may log in, says the fleet")
    print(line, flush=True)
    return 0


def main() -> int:
    """2 if this is not how sshd calls it; 1 if there was no answer."""
    syslog.openlog("gantry-ssh-keys", 0, syslog.LOG_AUTHPRIV)
    fingerprint = sys.argv[1] if len(sys.argv) == 2 else ""
    if not FINGERPRINT.fullmatch(fingerprint):
        print("usage: ssh-fleet-keys SHA256:…", file=sys.stderr)
        return 2
    said: list[int] = []
    # A thread of its own, for nothing else ends a name that is looked up for too long.
    asking = threading.Thread(target=lambda: said.append(say(fingerprint)), daemon=True)
    asking.start()
    asking.join(SECONDS)
    if not said:
        syslog.syslog(
            syslog.LOG_WARNING,
            f"{fingerprint} may not log in: the api does not answer within {SECONDS:.0f} s",
        )
        os._exit(1)
    return said[0]


if __name__ == "__main__":
    sys.exit(main())

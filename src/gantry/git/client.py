"""The doorway to the api and the builder: plain HTTP/1.1 of the standard library.

Not httpx2, on purpose: importing it takes 100 ms of each login and each push, this takes 35
(amd64, Python 3.11).
"""

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 10.0
RETRY_SECONDS = 4.0


class UnreachableError(Exception):
    """The service does not answer, or not in HTTP."""


class AnsweredError(Exception):
    """The service answered with an error. `sentence` is its own words, or ours without any."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


def connect(url: str, timeout: float = TIMEOUT) -> http.client.HTTPConnection:
    """A connection, not yet open, to the service at `url`; `timeout` in seconds."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port, timeout=timeout)
    return http.client.HTTPConnection(host, parts.port, timeout=timeout)


def request(
    url: str, method: str, path: str, key: str, body: object = None, retry: float = RETRY_SECONDS
) -> bytes:
    """The body of the answer to one request; `body` goes as JSON.

    A service that is being restarted is asked again for `retry` seconds.

    Raises:
        UnreachableError: no answer in that time.
        AnsweredError: an answer other than 2xx.
    """
    deadline = time.monotonic() + retry
    while True:
        try:
            return _request(url, method, path, key, body)
        except UnreachableError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.25)


def _request(url: str, method: str, path: str, key: str, body: object) -> bytes:
    headers = {"Authorization": f"Bearer {key}"}
    content = None
    if body is not None:
        content = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    connection = connect(url)
    try:
        connection.request(method, path, content, headers)
        response = connection.getresponse()
        answer = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{url} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status in (502, 503, 504):
        raise UnreachableError(f"{url} is not ready: HTTP {response.status}")
    if not 200 <= response.status < 300:
        raise AnsweredError(response.status, sentence_of(response.status, answer))
    return answer


def sentence_of(status: int, answer: bytes) -> str:
    """The `error` of a JSON answer; without one, the bare status."""
    try:
        fields: Any = json.loads(answer)
        return str(fields["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {status}"

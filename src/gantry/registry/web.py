"""The doorways to the api, the registry's HTTP interface and the delta server. Standard library
only.

https://distribution.github.io/distribution/spec/api/#deleting-an-image
"""

import base64
import http.client
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from gantry.contracts.delta_space import (
    ALL_DELTAS,
    COLLECT_PATH,
    LOOK_PATH,
    DeltaSpace,
    look_question,
)
from gantry.contracts.registry_space import KnownImage, Order, SpaceReport

NAME = "collector"
SECONDS = 30.0
# Condemning thousands of images is one transaction.
LONG_SECONDS = 120.0


class WebError(Exception):
    """The api or the registry refused, or is out of reach; the message says which and why."""


class OverError(WebError):
    """The api does not want this run any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body's value."""
        return json.loads(self.body or b"null")

    @property
    def sentence(self) -> str:
        """Why it was refused: the delta server says `message`, the others `error`."""
        try:
            said = self.json()
            return str(said["message"] if "message" in said else said["error"])
        except (KeyError, TypeError, ValueError):
            return f"status {self.status}"


def ask(
    base: str,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: object = None,
    seconds: float = SECONDS,
) -> Answer:
    """One request on a connection of its own.

    Raises:
        WebError: out of reach.
    """
    place = urlsplit(base)
    connection = http.client.HTTPConnection(place.hostname or "", place.port or 80, timeout=seconds)
    sent = dict(headers)
    content = None
    if body is not None:
        content = json.dumps(body).encode()
        sent["Content-Type"] = "application/json"
    try:
        connection.request(method, path, content, sent)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise WebError(f"{base} cannot be reached: {error!r}") from error
    finally:
        connection.close()


class Api:
    """The api, asked with the collector's service key."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"}

    def next(self) -> Order | None:
        """What is to be done, if anything; it is this collector's then."""
        found = self._send("POST", "/next")
        return Order.from_json(found) if found else None

    def recover(self) -> None:
        """A collector that was at work before has ended."""
        self._send("POST", "/recover")

    def images(self, run: int) -> list[KnownImage]:
        """All images that the api knows. In a collection those without reasons are condemned."""
        found = self._send("POST", f"/runs/{run}/images", seconds=LONG_SECONDS)
        return [KnownImage.from_json(each) for each in found["images"]]

    def say(self, run: int, text: str) -> None:
        """How far it is; also a sign of life."""
        self._send("POST", f"/runs/{run}/progress", {"text": text})

    def hold_pushes(self, run: int, since: str) -> list[str] | None:
        """Let no push go on: the repositories that were pushed to since then. None: not yet."""
        found = self._send("POST", f"/runs/{run}/sweep", {"since": since})
        return list(found["repositories"]) if found["granted"] else None

    def release_pushes(self, run: int) -> None:
        """Let pushes go on."""
        self._send("DELETE", f"/runs/{run}/sweep")

    def end(self, run: int, report: SpaceReport | None, error: str | None = None) -> None:
        """The run is over."""
        body = {"report": report.to_json() if report else None, "error": error}
        self._send("POST", f"/runs/{run}/end", body, seconds=LONG_SECONDS)

    def _send(self, method: str, path: str, body: object = None, seconds: float = SECONDS) -> Any:
        place = f"/services/collector{path}"
        answer = ask(self._url, method, place, self._headers, body or {}, seconds)
        if answer.status in (404, 409):
            raise OverError(f"the api: {answer.sentence}")
        if answer.status >= 400:
            raise WebError(f"the api refused {method} {place}: {answer.sentence}")
        return answer.json()


class Tokens:
    """The api's tokens for one of the services that it speaks for, as this collector."""

    def __init__(self, api_url: str, service: str, key: str) -> None:
        self._url = api_url
        self._service = service
        basic = base64.b64encode(f"{NAME}:{key}".encode()).decode()
        self._headers = {"Authorization": f"Basic {basic}"}
        self._known: dict[str, str] = {}

    def send(
        self,
        base: str,
        method: str,
        path: str,
        repository: str,
        body: object = None,
        seconds: float = SECONDS,
    ) -> Answer:
        """A request with a token to delete in this repository.

        Raises:
            WebError: the api gives none, or one of the two is out of reach.
        """
        for is_last in (False, True):
            token = self._known.get(repository) or self._new(repository)
            headers = {"Authorization": f"Bearer {token}"}
            answer = ask(base, method, path, headers, body, seconds)
            if answer.status != 401 or is_last:
                break
            # It is over.
            self._known.pop(repository)
        return answer

    def _new(self, repository: str) -> str:
        asked = urlencode({"service": self._service, "scope": f"repository:{repository}:delete"})
        answer = ask(self._url, "GET", f"/auth/v1/token?{asked}", self._headers)
        if answer.status != 200:
            raise WebError(f"the api gives no token for {repository}: {answer.sentence}")
        token = str(answer.json()["token"])
        self._known[repository] = token
        return token


class Registry:
    """The registry, where manifests are deleted."""

    def __init__(self, url: str, tokens: Tokens) -> None:
        self._url = url
        self._tokens = tokens

    def delete(self, repository: str, digest: str) -> bool:
        """Delete a manifest and the tags that lead to it; False when there is none.

        Raises:
            WebError: refused, or out of reach.
        """
        path = f"/v2/{quote(repository)}/manifests/{digest}"
        answer = self._tokens.send(self._url, "DELETE", path, repository)
        if answer.status not in (202, 404):
            reason = answer.body[:200].decode("utf-8", "replace")
            raise WebError(f"the registry refused to delete {repository}@{digest}: {reason}")
        return answer.status == 202


class Deltas:
    """The delta server, which knows what it keeps and why something goes."""

    def __init__(self, url: str, tokens: Tokens) -> None:
        self._url = url
        self._tokens = tokens

    def look(self, going: Iterable[tuple[str, str]]) -> DeltaSpace:
        """What is kept, and what would go when these images (repository, digest) have gone.

        Raises:
            WebError: refused, or out of reach.
        """
        return self._send(LOOK_PATH, look_question(going))

    def collect(self) -> DeltaSpace:
        """Have it remove what goes now; what that freed.

        Raises:
            WebError: refused, or out of reach; it may have removed some.
        """
        return self._send(COLLECT_PATH, {})

    def _send(self, path: str, body: object) -> DeltaSpace:
        answer = self._tokens.send(self._url, "POST", path, ALL_DELTAS, body, LONG_SECONDS)
        if answer.status != 200:
            raise WebError(f"the delta server refused {path}: {answer.sentence}")
        try:
            return DeltaSpace.from_json(answer.json())
        except ValueError as error:
            raise WebError(f"the delta server's answer is of no use: {error}") from error

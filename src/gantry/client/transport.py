"""HTTP for the api client: trust, tokens, and errors as sentences with exit codes.

`explained` and `trust` are for whoever else speaks to a fleet's servers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from gantry import __version__
from gantry.client.errors import (
    ClientError,
    NotAuthorisedError,
    NotFoundError,
    UnreachableError,
)
from gantry.client.trust import trust

TIMEOUT_SECONDS = 30.0
STREAM_SILENCE_SECONDS = 45.0
"""The log service sends a heartbeat every 15 s: after three that are missing nobody is there."""

# What was typed is wrong, and not the session.
_WRONG = ("the user name or the password is wrong", "the code is wrong")


class Transport:
    """Requests to one fleet's servers, under one user's token."""

    def __init__(
        self,
        url: str,
        token: str | None,
        ca_file: Path | None,
        fleet: str | None,
        proxy: str | None = None,
    ) -> None:
        """`proxy`: of one's own site; None: what HTTPS_PROXY says.

        Raises ClientError when `ca_file` cannot be read as certificates.
        """
        self.url = url.rstrip("/")
        self.token = token
        self._fleet = fleet
        self._client = httpx2.Client(
            verify=trust(ca_file),
            timeout=TIMEOUT_SECONDS,
            headers={"User-Agent": f"gantry/{__version__}"},
            proxy=proxy,
        )

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def request(
        self,
        method: str,
        path: str,
        accept: tuple[int, ...] = (),
        accept_type: str | None = None,
        **how: Any,
    ) -> httpx2.Response:
        """A successful answer, or one whose code is in `accept`; of `accept_type` where it matters.

        `path` is one of the api's or a whole URL; `how` as httpx2 has it.

        Raises:
            ClientError: one of its kinds, for everything else.
        """
        url = path if path.startswith("http") else f"{self.url}{path}"
        headers = self._headers() | ({"Accept": accept_type} if accept_type else {})
        with explained(url):
            answer = self._client.request(method, url, headers=headers, **how)
        if answer.is_success or answer.status_code in accept:
            return answer
        raise self._refusal(answer)

    @contextmanager
    def stream(
        self,
        url: str,
        params: Mapping[str, str | int] | None = None,
        *,
        body: Any = None,
        silence: float | None = STREAM_SILENCE_SECONDS,
    ) -> Iterator[Iterator[str]]:
        """The lines of an answer, as they come. With a `body` (JSON) it is asked for by POST.
        `silence`: seconds without a byte after which nobody is there; None: it may last.

        Raises:
            ClientError: as `request`, at the beginning and while lines are read.
        """
        timeout = httpx2.Timeout(TIMEOUT_SECONDS, read=silence)
        with (
            explained(url),
            self._client.stream(
                "GET" if body is None else "POST",
                url,
                params=dict(params or {}),
                json=body,
                headers=self._headers(),
                timeout=timeout,
            ) as answer,
        ):
            if answer.status_code != 200:
                answer.read()
                raise self._refusal(answer)
            yield answer.iter_lines()

    def _refusal(self, answer: httpx2.Response) -> ClientError:
        """An answer that is no success, as an error with its code."""
        sentence = _sentence(answer)
        fleet = f" --fleet {self._fleet}" if self._fleet else ""
        if answer.status_code == 401 and answer.request.url.path == "/login_":
            return NotAuthorisedError(f"{sentence}: check user name and password")
        if answer.status_code == 401 and sentence.startswith(_WRONG):
            return NotAuthorisedError(sentence)
        if answer.status_code == 401:
            # The api says that much to all its clients; this one knows the command.
            reason = sentence.removesuffix(": log in again").partition(": send a code")[0]
            return NotAuthorisedError(f"{reason}: log in again with `gantry login{fleet}`")
        if answer.status_code == 403:
            return NotAuthorisedError(f"{sentence} (not allowed for this user)")
        if answer.status_code == 404:
            return NotFoundError(sentence)
        if answer.status_code >= 500:
            is_passed_on = answer.request.url.path.startswith("/supervisor/")
            if is_passed_on and not sentence.startswith("HTTP "):
                # It is the device that does not answer, or answers so.
                return UnreachableError(sentence)
            return UnreachableError(f"{answer.request.url.host} is not able to answer: {sentence}")
        return ClientError(sentence)


@contextmanager
def explained(url: str) -> Iterator[None]:
    """What a connection dies of, as a sentence.

    Raises:
        UnreachableError: in place of whatever httpx2 raises.
    """
    where = "/".join(url.split("/")[:3])
    try:
        yield
    except httpx2.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise UnreachableError(
                f"{where}: its certificate is not trusted: give the fleet's CA with "
                "`gantry login --ca FILE`"
            ) from error
        raise UnreachableError(
            f"{where} cannot be reached ({error}): is the fleet up, and its name known here?"
        ) from error
    except httpx2.TimeoutException as error:
        raise UnreachableError(f"{where} does not answer in time: try again") from error
    except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise UnreachableError(f"the connection to {where} broke: {reason}") from error


def _sentence(answer: httpx2.Response) -> str:
    try:
        fields = answer.json()
        # `Error` and `message` are the supervisor's, whose answers are passed on.
        return str(
            fields.get("error") or fields.get("Error") or fields.get("message") or fields["detail"]
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        text = answer.text.strip().splitlines()
        detail = f": {text[0][:200]}" if text and "<" not in text[0] else ""
        return f"HTTP {answer.status_code}{detail}"

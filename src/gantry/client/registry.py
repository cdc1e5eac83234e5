"""The one doorway to a fleet's registry for reading: manifests and blobs, for one user.

The protocol is https://distribution.github.io/distribution/spec/api/, with its token service.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from gantry.client.errors import ClientError, NotAuthorisedError, NotFoundError, UnreachableError
from gantry.client.transport import explained

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_TIMEOUT = httpx2.Timeout(60.0, connect=15.0)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_MANIFEST_LIMIT = 4 * 1024**2
_PIECE = 256 * 1024


class Registry:
    """A connection to one registry. `login` is a user's name and token, if it asks for them."""

    def __init__(self, address: str, login: tuple[str, str] | None, verify: Any = True) -> None:
        # As the engine has it: on this very machine, a registry may be without TLS.
        is_here = address.partition(":")[0] in ("127.0.0.1", "localhost")
        self._base = f"{'http' if is_here else 'https'}://{address}"
        self._login = login
        self._tokens: dict[str, str] = {}
        self._client = httpx2.Client(verify=verify, timeout=_TIMEOUT, follow_redirects=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()

    def manifest(self, repository: str, digest: str) -> tuple[bytes, str]:
        """A manifest as it is stored, and its media type.

        Raises:
            ClientError: one of its kinds; also where its content is not that of the digest.
        """
        accept = {"Accept": ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))}
        with self._get(repository, f"manifests/{digest}", accept) as answer:
            content = b"".join(answer.iter_bytes())
            media_type = str(answer.headers.get("Content-Type", "")).partition(";")[0]
        if len(content) > _MANIFEST_LIMIT:
            raise ClientError(f"{repository}@{digest}: a manifest of {len(content)} bytes")
        if hashlib.sha256(content).hexdigest() != digest.partition(":")[2]:
            raise UnreachableError(f"{self._base} sent another manifest than {digest}: try again")
        return content, media_type

    def blob(self, repository: str, digest: str) -> Iterator[bytes]:
        """A blob in pieces, unverified. Raises as `manifest`."""
        with self._get(repository, f"blobs/{digest}", {}) as answer:
            yield from answer.iter_raw(_PIECE)

    @contextmanager
    def _get(
        self, repository: str, path: str, headers: dict[str, str]
    ) -> Iterator[httpx2.Response]:
        url = f"{self._base}/v2/{repository}/{path}"
        with explained(url):
            for is_last in (False, True):
                with self._client.stream(
                    "GET", url, headers=headers | self._auth(repository)
                ) as it:
                    if it.status_code == 401 and not is_last:
                        self._tokens[repository] = self._token(it.headers, repository)
                        continue
                    if it.status_code != 200:
                        raise _refusal(it, url)
                    yield it
                    return

    def _auth(self, repository: str) -> dict[str, str]:
        token = self._tokens.get(repository)
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _token(self, headers: httpx2.Headers, repository: str) -> str:
        """A token for pulling, from the service that the registry names."""
        challenge = str(headers.get("WWW-Authenticate", ""))
        named = dict(_PARAMETER.findall(challenge))
        realm = named.get("realm", "")
        if not challenge.lower().startswith("bearer ") or urlsplit(realm).scheme not in (
            "https",
            "http",
        ):
            raise NotAuthorisedError(f"{self._base} asks for a login of an unknown kind")
        parameters = {"service": named.get("service", ""), "scope": f"repository:{repository}:pull"}
        with explained(realm):
            answer = self._client.get(realm, params=parameters, headers=self._basic())
        if answer.status_code != 200:
            raise _refusal(answer, realm)
        return str(answer.json()["token"])

    def _basic(self) -> dict[str, str]:
        if self._login is None:
            return {}
        pair = base64.b64encode(":".join(self._login).encode()).decode()
        return {"Authorization": f"Basic {pair}"}


def _refusal(answer: httpx2.Response, url: str) -> ClientError:
    sentence = f"{url}: {answer.status_code}"
    if answer.status_code in (401, 403):
        return NotAuthorisedError(f"{sentence}: you may not read this image; log in again?")
    if answer.status_code == 404:
        return NotFoundError(f"{sentence}: the registry does not have it")
    if answer.status_code >= 500:
        return UnreachableError(f"{sentence}: the registry is not able to answer")
    return ClientError(sentence)

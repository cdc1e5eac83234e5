"""The doorway to the fleet's registry: manifests, configurations and blobs, by digest.

The protocol is https://distribution.github.io/distribution/spec/api/. Tokens come from the api, by
the service's own key; they hold for hours, and are taken anew when the registry refuses one.
"""

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from gantry.contracts.deltas import ImageReference
from gantry.deltas.server.config import Config
from gantry.deltas.server.errors import NoSuchImageError, TemporaryError
from gantry.deltas.server.images import (
    INDEX_TYPES,
    MANIFEST_TYPES,
    Image,
    config_digest,
    only_manifest,
    read_image,
)

USER = "deltas"
TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
DOCUMENT_LIMIT = 4 * 1024**2
TOKEN_SPARE_SECONDS = 60.0
MAX_TOKENS = 1000
MAX_IMAGES = 1000
PIECE = 256 * 1024


class Registry:
    """Raises TemporaryError wherever the registry or the api does not do its part."""

    def __init__(self, client: httpx2.AsyncClient, config: Config) -> None:
        self._client = client
        self._base = config.registry_url
        self._token_url = f"{config.api_url}/auth/v1/token"
        self._service = config.registry
        self._auth = httpx2.BasicAuth(USER, config.service_key.get_secret_value())
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()
        # By repository and digest: they never change.
        self._images: OrderedDict[tuple[str, str], Image] = OrderedDict()

    async def image(self, reference: ImageReference) -> Image:
        """An image with its layers.

        Raises:
            NoSuchImageError: the registry does not have it.
            WholeError: it is none that a delta can be made of.
            TemporaryError: the registry cannot say.
        """
        name = (reference.name, reference.digest)
        if (known := self._images.get(name)) is not None:
            self._images.move_to_end(name)
            return known
        manifest, media_type = await self._manifest(reference.name, reference.digest)
        if media_type in INDEX_TYPES:
            one = only_manifest(str(reference), manifest)
            manifest, _ = await self._manifest(reference.name, one)
        try:
            digest = config_digest(manifest)
        except (KeyError, TypeError):
            digest = ""
        config = await self._document(reference.name, f"blobs/{digest}", digest) if digest else {}
        image = read_image(reference.name, reference.digest, manifest, config)
        self._images[name] = image
        if len(self._images) > MAX_IMAGES:
            self._images.popitem(last=False)
        return image

    async def has(self, repository: str, digest: str) -> bool:
        """Whether the registry has this image still. Raises TemporaryError."""
        try:
            async with self._get(repository, f"manifests/{digest}", "HEAD"):
                return True
        except NoSuchImageError:
            self._images.pop((repository, digest), None)
            return False

    @asynccontextmanager
    async def blob(self, repository: str, digest: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """A blob in pieces, unverified.

        Raises:
            NoSuchImageError: the registry does not have it.
            TemporaryError: the registry does not answer, or breaks off.
        """
        async with self._get(repository, f"blobs/{digest}") as answer:
            yield answer.aiter_raw(PIECE)

    async def _manifest(self, repository: str, digest: str) -> tuple[dict[str, Any], str]:
        document = await self._document(repository, f"manifests/{digest}", digest)
        return document, str(document.get("mediaType", ""))

    async def _document(self, repository: str, path: str, digest: str) -> dict[str, Any]:
        content = b""
        async with self._get(repository, path) as answer:
            media_type = str(answer.headers.get("Content-Type", "")).partition(";")[0]
            async for piece in answer.aiter_raw(PIECE):
                content += piece
                if len(content) > DOCUMENT_LIMIT:
                    raise TemporaryError(f"{repository} {path} has over {DOCUMENT_LIMIT} bytes")
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise TemporaryError(f"the registry sent another {path} of {repository}")
        try:
            document = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise TemporaryError(f"{repository} {path} is no JSON: {error!s:.100}") from error
        if not isinstance(document, dict):
            raise TemporaryError(f"{repository} {path} is no JSON object")
        # OCI lets manifests leave out what the header says.
        return {"mediaType": media_type, **document}

    @asynccontextmanager
    async def _get(
        self, repository: str, path: str, method: str = "GET"
    ) -> AsyncIterator[httpx2.Response]:
        url = f"{self._base}/v2/{repository}/{path}"
        try:
            for is_last in (False, True):
                headers = await self._headers(repository)
                async with self._client.stream(method, url, headers=headers) as answer:
                    if answer.status_code == 401 and not is_last:
                        self._tokens.pop(repository, None)
                        continue
                    _check(answer, url)
                    yield answer
                    return
        except httpx2.HTTPError as error:
            raise TemporaryError(f"the registry does not answer ({_why(error)}): {url}") from error

    async def _headers(self, repository: str) -> Mapping[str, str]:
        accept = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
        token, until = self._tokens.get(repository, ("", 0.0))
        if until < time.monotonic():
            token, until = await self._token(repository)
            self._tokens[repository] = (token, until)
            if len(self._tokens) > MAX_TOKENS:
                self._tokens.popitem(last=False)
        return {"Accept": accept, "Authorization": f"Bearer {token}"}

    async def _token(self, repository: str) -> tuple[str, float]:
        asked = time.monotonic()
        params = {"service": self._service, "scope": f"repository:{repository}:pull"}
        try:
            answer = await self._client.get(self._token_url, params=params, auth=self._auth)
            answer.raise_for_status()
            told = answer.json()
            seconds = float(told.get("expires_in", 60))
            return str(told["token"]), asked + seconds - TOKEN_SPARE_SECONDS
        except (httpx2.HTTPError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise TemporaryError(f"the api gives no token ({_why(error)})") from error


def _check(answer: httpx2.Response, url: str) -> None:
    if answer.status_code == 404:
        raise NoSuchImageError(f"the registry does not have {url.partition('/v2/')[2]}")
    if answer.status_code != 200:
        raise TemporaryError(f"the registry answered {answer.status_code}: {url}")


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__

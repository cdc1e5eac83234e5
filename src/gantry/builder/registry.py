"""The doorway to the fleet's registry: manifests, read back after a push.

https://distribution.github.io/distribution/spec/api/; token authentication as in
https://distribution.github.io/distribution/spec/auth/token/.
"""

import re
import ssl
from collections.abc import Mapping
from typing import Any

import httpx2

MANIFEST_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class RegistryError(Exception):
    """The registry refused or is out of reach."""


class Registry:
    """The registry `name` (`host:port`), trusted by the fleet's own CA."""

    def __init__(self, name: str, ca_certificate_pem: str, username: str, password: str) -> None:
        self.name = name
        context = ssl.create_default_context(cadata=ca_certificate_pem)
        self._client = httpx2.AsyncClient(verify=context, timeout=30.0)
        self._auth = httpx2.BasicAuth(username, password)

    async def close(self) -> None:
        await self._client.aclose()

    async def size(self, repository: str, digest: str) -> int:
        """The bytes of an image's compressed layers: what a device downloads at most.

        Raises:
            RegistryError: no such manifest, or the registry cannot be reached.
        """
        manifest = await self._manifest(repository, digest)
        return sum(int(each["size"]) for each in manifest.get("layers", ()))

    async def _manifest(self, repository: str, reference: str) -> dict[str, Any]:
        url = f"https://{self.name}/v2/{repository}/manifests/{reference}"
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        try:
            response = await self._client.get(url, headers=headers)
            if response.status_code == 401:
                token = await self._token(response.headers.get("WWW-Authenticate", ""))
                headers["Authorization"] = f"Bearer {token}"
                response = await self._client.get(url, headers=headers)
            response.raise_for_status()
            manifest = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise RegistryError(f"{url} cannot be read: {error}") from error
        return manifest if isinstance(manifest, dict) else {}

    async def _token(self, challenge: str) -> str:
        wanted: Mapping[str, str] = dict(_PARAMETER.findall(challenge))
        if "realm" not in wanted:
            raise RegistryError(f"the registry's challenge names no realm: {challenge!r:.200}")
        params = {key: wanted[key] for key in ("service", "scope") if key in wanted}
        response = await self._client.get(wanted["realm"], params=params, auth=self._auth)
        response.raise_for_status()
        return str(response.json()["token"])

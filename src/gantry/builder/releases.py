"""The doorway to the api: releases are told as they are built."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx2

from gantry.contracts.build import ReleaseStatus


class ReleaseApiError(Exception):
    """The api refused or is out of reach; the message is for the person who pushed."""


@dataclass(frozen=True, slots=True)
class ReleaseImage:
    """An image that a release is to have, and the repository that it is pushed to."""

    image_id: int
    service: str
    repository: str


@dataclass(frozen=True, slots=True)
class Release:
    """A release that the api has made for a build; `already` when this commit has one.

    Then it was built before, is the application's target again, and nothing is to be built.
    """

    release_id: int
    images: Mapping[str, ReleaseImage]
    already: bool = False


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """What became of an image; `size` is of its compressed layers, in bytes."""

    image_id: int
    digest: str
    size: int
    build_seconds: float
    dockerfile: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    contract: Mapping[str, Any] | None = None


class ReleaseApi:
    """The api at `url`, asked with the service key of the builder named `builder`."""

    def __init__(self, url: str, service_key: str, builder: str) -> None:
        self._builder = builder
        self._client = httpx2.AsyncClient(
            base_url=url, headers={"Authorization": f"Bearer {service_key}"}, timeout=30.0
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def create_release(
        self,
        *,
        application_id: int,
        user_id: int,
        commit: str,
        composition: Mapping[str, Any],
        services: Sequence[str],
    ) -> Release:
        """Make a running release.

        Raises:
            ReleaseApiError: the api refused it, or cannot be reached.
        """
        fields = await self._send(
            "POST",
            "/services/builder/releases",
            {
                "application_id": application_id,
                "user_id": user_id,
                "commit": commit,
                "composition": composition,
                "source": "git",
                "services": list(services),
                "builder": self._builder,
            },
        )
        try:
            images = [
                ReleaseImage(int(each["image_id"]), each["service"], each["repository"])
                for each in fields["images"]
            ]
            return Release(
                int(fields["release_id"]),
                {each.service: each for each in images},
                already=bool(fields.get("already", False)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ReleaseApiError(f"the api answered with no release: {error!r}") from error

    async def finish_release(
        self,
        release_id: int,
        status: ReleaseStatus,
        *,
        log: str,
        error: str | None = None,
        images: Sequence[BuiltImage] = (),
    ) -> None:
        """Say how a build ended; success makes it the application's target.

        Raises:
            ReleaseApiError: the api refused it, or cannot be reached.
        """
        body: dict[str, Any] = {"status": status.value, "build_log": log}
        if error:
            body["error"] = error
        if images:
            body["images"] = [asdict(each) for each in images]
        await self._send("PATCH", f"/services/builder/releases/{release_id}", body)

    async def publish_supervisor(
        self, architecture: str, version: str, image: str, digest: str
    ) -> None:
        """Say which image the supervisor of an architecture has; said again it changes nothing.

        Raises:
            ReleaseApiError: the api refused it, or cannot be reached.
        """
        body = {"architecture": architecture, "version": version, "image": image, "digest": digest}
        await self._send("POST", "/services/builder/supervisors", body)

    async def recover(self) -> None:
        """Builds that were running when this builder last ended have failed.

        Raises:
            ReleaseApiError: the api refused it, or cannot be reached.
        """
        await self._send("POST", "/services/builder/recover", {"builder": self._builder})

    async def may_read(self, release_id: int, authorization: str) -> bool:
        """Whether the api shows the release to a caller with this Authorization header.

        Raises:
            ReleaseApiError: the api cannot be reached.
        """
        try:
            response = await self._client.get(
                f"/v7/release({release_id})",
                params={"$select": "id"},
                headers={"Authorization": authorization},
            )
        except httpx2.HTTPError as error:
            raise ReleaseApiError(f"the api cannot be reached: {error!r}") from error
        return response.status_code == 200 and bool(response.json().get("d"))

    async def _send(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            response = await self._client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise ReleaseApiError(
                f"the fleet's api cannot be reached ({error!r}): push again in a moment"
            ) from error
        if response.is_error:
            raise ReleaseApiError(f"the api refused {method} {path}: {_sentence(response)}")
        if not response.content:
            return {}
        try:
            fields = response.json()
        except ValueError as error:
            raise ReleaseApiError(f"the api's answer to {method} {path} is not JSON") from error
        return fields if isinstance(fields, dict) else {}


def _sentence(response: httpx2.Response) -> str:
    try:
        return str(response.json()["error"])
    except (KeyError, TypeError, ValueError):
        return f"status {response.status_code}"

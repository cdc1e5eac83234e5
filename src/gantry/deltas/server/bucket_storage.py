"""Deltas on S3-compatible storage. Apart from the other: its libraries take time and memory."""

import asyncio
import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from botocore.exceptions import BotoCoreError, ClientError

from gantry.bucket import connect
from gantry.contracts.deltas import MEDIA_TYPE, SUFFIX
from gantry.contracts.storage import S3Storage
from gantry.deltas.server.errors import NotFoundError, TemporaryError
from gantry.deltas.server.storage import NAME, PIECE


class BucketStorage:
    """Deltas as objects of a bucket, below its prefix."""

    def __init__(self, storage: S3Storage) -> None:
        self._bucket = storage.bucket
        self._prefix = f"{storage.prefix.strip('/')}/" if storage.prefix else ""
        self._client = connect(storage)

    def close(self) -> None:
        """Nothing is asked of it any more."""
        self._client.close()

    async def put(self, path: Path, digest: str) -> None:
        options = {"ContentType": MEDIA_TYPE}
        await self._do(
            self._client.upload_file,
            Filename=str(path),
            Bucket=self._bucket,
            Key=self._key(digest),
            ExtraArgs=options,
        )
        await asyncio.to_thread(path.unlink)

    async def read(self, digest: str, start: int, end: int) -> AsyncIterator[bytes]:
        if start >= end:
            return
        span = f"bytes={start}-{end - 1}"
        answer = await self._do(
            self._client.get_object, Bucket=self._bucket, Key=self._key(digest), Range=span
        )
        body = answer["Body"]
        try:
            while start < end:
                piece: bytes = await self._do(body.read, PIECE)
                if not piece:
                    raise TemporaryError(f"the storage broke off delta {digest} at {start}")
                start += len(piece)
                yield piece
        finally:
            body.close()

    async def remove(self, digest: str) -> None:
        await self._do(self._client.delete_object, Bucket=self._bucket, Key=self._key(digest))

    async def sizes(self) -> dict[str, int]:
        return dict(await self._do(self._sizes))

    def _sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix):
            for each in page.get("Contents", ()):
                name = str(each["Key"]).removeprefix(self._prefix)
                if NAME.fullmatch(name):
                    found[f"sha256:{name.removesuffix(SUFFIX)}"] = int(each["Size"])
        return found

    def _key(self, digest: str) -> str:
        return f"{self._prefix}{digest.partition(':')[2]}{SUFFIX}"

    async def _do(self, call: Any, *args: Any, **options: Any) -> Any:
        try:
            return await run_sync(functools.partial(call, *args, **options))
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if status == 404:
                raise NotFoundError("the delta is not in the storage any more") from error
            raise TemporaryError(f"bucket {self._bucket}: {error}") from error
        except (BotoCoreError, OSError) as error:
            raise TemporaryError(f"bucket {self._bucket} does not answer: {error}") from error

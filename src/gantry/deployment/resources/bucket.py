"""The bucket that a fleet's registry keeps its blobs in."""

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from gantry.bucket import ensure_bucket
from gantry.contracts.storage import S3Storage

KEYS = ("bucket", "region", "access_key", "secret_key", "endpoint")


class BucketProvider(ResourceProvider):
    """Makes the bucket exist. It is data: nothing deletes it."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make it, or find it.

        Raises:
            BucketError: the storage does not answer or refuses.
        """
        ensure_bucket(S3Storage(**{key: props.get(key) for key in KEYS}))  # type: ignore[arg-type]
        return CreateResult(str(props["bucket"]), props)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Whether another place or other keys are asked for."""
        return DiffResult(changes=any(olds.get(key) != news.get(key) for key in KEYS))

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Make it where it is to be now; what was elsewhere stays there.

        Raises:
            BucketError: the storage does not answer or refuses.
        """
        return UpdateResult(self.create(news).outs)


class Bucket(Resource, module="gantry", name="Bucket"):
    """A bucket on S3-compatible storage."""

    bucket: pulumi.Output[str]

    def __init__(
        self, name: str, storage: S3Storage, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["access_key", "secret_key"])
        props = {
            "bucket": storage.bucket,
            "region": storage.region,
            "access_key": pulumi.Output.secret(storage.access_key),
            "secret_key": pulumi.Output.secret(storage.secret_key),
            "endpoint": storage.endpoint,
        }
        super().__init__(BucketProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret))

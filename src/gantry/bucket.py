"""The doorway to S3-compatible storage: what the registry and the delta server keep is there."""

from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from gantry.contracts.storage import S3Storage

# What CreateBucket takes no LocationConstraint for
# (https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html).
DEFAULT_REGION = "us-east-1"
ATTEMPTS = 5


class BucketError(Exception):
    """The bucket can neither be used nor made; the message says which and why."""


def keys_of_environment() -> tuple[str, str]:
    """The access key and secret key that boto3 finds in the environment or in ~/.aws.

    Raises:
        BucketError: none, or only ones that expire: the registry could not renew them.
    """
    found = boto3.Session().get_credentials()
    keys = found.get_frozen_credentials() if found else None
    if keys is None or keys.token:
        raise BucketError(
            "no lasting keys for the bucket: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
            "or accessKey and secretKey of the stack"
        )
    return str(keys.access_key), str(keys.secret_key)


def connect(storage: S3Storage, attempts: int = ATTEMPTS, **limits: Any) -> Any:
    """A client of the storage, to be closed; threads may share it. `limits` are botocore's."""
    return boto3.client(
        "s3",
        endpoint_url=storage.endpoint,
        region_name=storage.region,
        aws_access_key_id=storage.access_key,
        aws_secret_access_key=storage.secret_key,
        config=Config(
            **limits,
            retries={"max_attempts": attempts, "mode": "standard"},
            # Storage that is not Amazon's does not know the newer checksums.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def ensure_bucket(storage: S3Storage) -> bool:
    """Make the bucket exist, private; say whether it was made now.

    Raises:
        BucketError: the storage does not answer, refuses the keys, or the name is another's.
    """
    client = connect(storage)
    try:
        try:
            client.head_bucket(Bucket=storage.bucket)
            return False
        except ClientError as error:
            if _status(error) != 404:
                raise
        options = {"Bucket": storage.bucket}
        if storage.region != DEFAULT_REGION:
            place = {"LocationConstraint": storage.region}
            client.create_bucket(**options, CreateBucketConfiguration=place)
        else:
            client.create_bucket(**options)
        return True
    except (BotoCoreError, ClientError) as error:
        where = storage.endpoint or "Amazon S3"
        raise BucketError(
            f"bucket {storage.bucket!r} at {where}: {error}; check gantry:storage of the stack"
        ) from error
    finally:
        client.close()


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))

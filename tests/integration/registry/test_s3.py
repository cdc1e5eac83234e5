"""Blobs on S3-compatible storage: a moto server, the real registry, a bucket made with boto3."""

from dataclasses import replace

import boto3
import pytest

from gantry.bucket import BucketError, ensure_bucket, keys_of_environment
from gantry.contracts.storage import S3Storage
from gantry.deployment.resources.bucket import BucketProvider

from .blobs import pull_image, push_image
from .conftest import S3_HOST, Signer, Start

NAME = "v2/0123456789abcdef0123456789abcdef"
MEBIBYTE = 1024**2


@pytest.fixture
def storage(s3: str, request: pytest.FixtureRequest) -> S3Storage:
    name = request.node.name.replace("_", "-").removeprefix("test-")
    return S3Storage(name, "us-east-1", "an-access-key", "a-secret-key", endpoint=s3)


def names(storage: S3Storage) -> list[str]:
    client = boto3.client(
        "s3", endpoint_url=storage.endpoint, region_name=storage.region,
        aws_access_key_id=storage.access_key, aws_secret_access_key=storage.secret_key,
    )  # fmt: skip
    try:
        answer = client.list_objects_v2(Bucket=storage.bucket)
        return [str(each["Key"]) for each in answer.get("Contents", [])]
    finally:
        client.close()


def test_the_bucket_is_made_once(storage: S3Storage) -> None:
    assert ensure_bucket(storage) is True
    assert ensure_bucket(storage) is False
    assert names(storage) == []


def test_a_region_of_its_own(s3: str) -> None:
    storage = S3Storage("bots-in-ireland", "eu-west-1", "a", "s", endpoint=s3)
    assert ensure_bucket(storage) is True


def test_storage_that_does_not_answer_is_named() -> None:
    storage = S3Storage("some-bucket", "us-east-1", "a", "s", endpoint="http://127.0.0.1:1")
    with pytest.raises(BucketError, match=r"bucket 'some-bucket' at http://127\.0\.0\.1:1"):
        ensure_bucket(storage)


def test_keys_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "likewise")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    assert keys_of_environment() == ("from-the-environment", "likewise")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "expires")
    with pytest.raises(BucketError, match="no lasting keys"):
        keys_of_environment()


def test_images_survive_the_registrys_container(
    storage: S3Storage, start: Start, signer: Signer
) -> None:
    props = {
        "bucket": storage.bucket,
        "region": storage.region,
        "access_key": storage.access_key,
        "secret_key": storage.secret_key,
        "endpoint": storage.endpoint,
    }
    assert BucketProvider().create(props).outs == props
    assert BucketProvider().diff("x", props, props).changes is False
    token = signer.token((NAME, "pull,push"))
    inside = replace(storage, endpoint=str(storage.endpoint).replace("127.0.0.1", S3_HOST))
    with start(inside) as registry:
        # More than one part of a multipart upload.
        digest = push_image(registry.client, NAME, token, size=12 * MEBIBYTE)
    with start(inside) as registry:
        assert pull_image(registry.client, NAME, token, digest) == 12 * MEBIBYTE
    assert any("/blobs/" in each for each in names(storage))

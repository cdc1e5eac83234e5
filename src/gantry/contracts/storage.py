"""Where a fleet's large files are kept, as infra tells the services that keep them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class S3Storage:
    """A bucket on S3-compatible storage. `endpoint` is a URL; None is Amazon's own."""

    bucket: str
    region: str
    access_key: str
    secret_key: str
    endpoint: str | None = None
    prefix: str = ""

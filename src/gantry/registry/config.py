"""The registry's `config.yml`: token authentication by the api, blobs on a volume or on S3.

Keys are those of distribution 2.8 (https://distribution.github.io/distribution/about/configuration/).
"""

from dataclasses import dataclass
from typing import Any

import yaml

from gantry.contracts.storage import S3Storage

LISTEN_PORT = 5000
DATA_FOLDER = "/var/lib/registry"
TOKEN_CERTIFICATE_FILE = "/etc/gantry/token.crt"  # noqa: S105 - a path


@dataclass(frozen=True, slots=True)
class TokenAuth:
    """Who gives tokens (`realm`, a URL), who signs them, and for whom they are meant."""

    realm: str
    service: str
    issuer: str


def registry_config(
    auth: TokenAuth, http_secret: str, *, storage: S3Storage | None = None, public_url: str = ""
) -> str:
    """The text of `config.yml`; holds secrets.

    `http_secret` signs the state of unfinished uploads, which outlive a restart. `public_url` is
    what the registry writes into Location headers; without it, what the request says.
    """
    http: dict[str, Any] = {
        "addr": f":{LISTEN_PORT}",
        "secret": http_secret,
        "headers": {"X-Content-Type-Options": ["nosniff"]},
    }
    if public_url:
        http["host"] = public_url
    document = {
        "version": 0.1,
        "log": {
            "level": "info",
            "formatter": "json",
            # The proxy keeps the access log.
            "accesslog": {"disabled": True},
        },
        "storage": _storage(storage),
        "http": http,
        "auth": {
            "token": {
                "realm": auth.realm,
                "service": auth.service,
                "issuer": auth.issuer,
                "rootcertbundle": TOKEN_CERTIFICATE_FILE,
            }
        },
        "health": {"storagedriver": {"enabled": True, "interval": "30s", "threshold": 3}},
    }
    return yaml.safe_dump(document, sort_keys=False)


def _storage(s3: S3Storage | None) -> dict[str, Any]:
    common: dict[str, Any] = {
        "delete": {"enabled": True},
        # No cache of blobs' descriptors: it answers for blobs that the collector has removed, and
        # forgets nothing (docs/decisions/0023-registry-space.md).
        # Unfinished uploads of pushes that were broken off.
        "maintenance": {
            "uploadpurging": {"enabled": True, "age": "24h", "interval": "6h", "dryrun": False}
        },
    }
    if s3 is None:
        return {"filesystem": {"rootdirectory": DATA_FOLDER}, **common}
    driver: dict[str, Any] = {
        "bucket": s3.bucket,
        "region": s3.region,
        "accesskey": s3.access_key,
        "secretkey": s3.secret_key,
    }
    if s3.endpoint:
        driver |= {"regionendpoint": s3.endpoint, "secure": s3.endpoint.startswith("https://")}
    if s3.prefix:
        driver["rootdirectory"] = f"/{s3.prefix.strip('/')}"
    # Devices reach the proxy and nothing else: blobs go through it, not by a link to the bucket.
    return {"s3": driver, "redirect": {"disable": True}, **common}

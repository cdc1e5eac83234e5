"""The delta server: it makes the fleet's deltas, keeps and serves them."""

from typing import Any

import pulumi

import api
from config import StackConfig
from gantry.contracts.storage import S3Storage
from gantry.registry.config import LISTEN_PORT
from identity import Identity
from network import Networks
from service import PYTHON_USER, Attachment, Service, Spec, http_probe

URL = "http://deltas:8080"
DATA_FOLDER = "/var/lib/gantry/deltas"
MEBIBYTE = 1024**2
GIBIBYTE = 1024**3
# In the registry's bucket, beside its own `docker/`.
PREFIX = "deltas"


class Deltas(Service):
    """Reached inside as `http://deltas:8080`; outside through the proxy."""

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        storage, settings = config.bucket(), config.deltas
        document = pulumi.Output.json_dumps(
            {
                "fleet": config.fleet,
                "service": config.authority("delta"),
                "registry": config.authority("registry"),
                "realm": f"{config.url('api')}/auth/v1/token",
                "issuer": f"api.{config.host}",
                "api_url": api.URL,
                "registry_url": f"http://registry:{LISTEN_PORT}",
                "service_key": identity.service_keys["deltas"],
                "token_certificate_pem": identity.token.certificate_pem,
                "bucket": _bucket(storage) if storage else None,
                "limits": _limits(config),
            }
        )
        attachments = [Attachment(networks.internal, ("deltas",))]
        if storage:
            attachments.append(Attachment(networks.egress))
        spec = Spec(
            name="deltas",
            user=PYTHON_USER,
            memory=config.memory.deltas + settings.workers * settings.memory,
            probe=http_probe("http://127.0.0.1:8080/healthy"),
            attachments=tuple(attachments),
            # With a bucket too: unpacked layers and the index are here.
            data=DATA_FOLDER,
            files={"deltas.json": document},
        )
        super().__init__(config, spec, opts)


def _limits(config: StackConfig) -> dict[str, int]:
    settings = config.deltas
    return {
        "workers": settings.workers,
        "memory_bytes": settings.memory * MEBIBYTE,
        "seconds": settings.seconds,
        "pair_bytes": settings.cache * GIBIBYTE // settings.workers,
        "cache_bytes": settings.cache * GIBIBYTE,
        "storage_bytes": settings.storage * GIBIBYTE,
        "days": settings.days,
    }


def _bucket(storage: S3Storage) -> dict[str, Any]:
    return {
        "bucket": storage.bucket,
        "region": storage.region,
        "access_key": storage.access_key,
        "secret_key": storage.secret_key,
        "endpoint": storage.endpoint,
        "prefix": PREFIX,
    }

"""NATS with JetStream: where the logs service keeps lines."""

import json

import pulumi

from config import StackConfig
from identity import Identity
from network import Networks
from service import Attachment, Service, Spec, http_probe

URL = "nats://nats:4222"
MONITORING_PORT = 8222
MIB = 1024**2


def nats_config(token: str, memory: int) -> str:
    """The server's configuration, in the JSON that its own format contains; `memory` in MiB.

    Sizes are numbers: in JSON, a size with a unit would be a text.

    Keys: https://docs.nats.io/running-a-nats-service/configuration
    """
    document = {
        "server_name": "nats",
        "listen": "0.0.0.0:4222",
        # Health only, and inside the container only.
        "http": f"127.0.0.1:{MONITORING_PORT}",
        "max_payload": MIB,
        "authorization": {"token": token},
        "jetstream": {
            "store_dir": "/var/lib/nats",
            "max_memory_store": memory * MIB // 4,
            "max_file_store": 10 * 1024 * MIB,
        },
    }
    return json.dumps(document, indent=2) + "\n"


class Nats(Service):
    """Reached inside as `nats://nats:4222`, with a token."""

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        memory = config.memory.nats
        spec = Spec(
            name="nats",
            user="10004:10004",
            memory=memory,
            probe=http_probe(f"http://127.0.0.1:{MONITORING_PORT}/healthz?js-enabled-only=true"),
            attachments=(Attachment(networks.internal, ("nats",)),),
            data="/var/lib/nats",
            files={"nats.conf": identity.nats_token.apply(lambda each: nats_config(each, memory))},
        )
        super().__init__(config, spec, opts)

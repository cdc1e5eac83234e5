"""The proxy: one HTTPS port for all names of a fleet."""

import pulumi

from caddyfile import PROBE_HOST, PROBE_PORT, caddyfile
from config import StackConfig
from identity import Identity
from network import Networks
from service import Attachment, Service, Spec, http_probe

NAMES = ("api", "registry", "builder", "delta", "logs", "dashboard")


class Proxy(Service):
    """It has the fleet's public names on both networks: a name means the same everywhere."""

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        public = tuple(f"{name}.{config.host}" for name in NAMES)
        spec = Spec(
            name="proxy",
            user="10005:10005",
            memory=config.memory.proxy,
            probe=http_probe(f"http://{PROBE_HOST}:{PROBE_PORT}/"),
            attachments=(
                Attachment(networks.internal, ("proxy", config.host, *public)),
                # The bare host is git's name here: devices use the names below it only.
                Attachment(networks.edge, public),
            ),
            files={
                "Caddyfile": caddyfile(config.host, config.https_port),
                "tls.crt": identity.server.certificate_pem,
                "tls.key": identity.server.key_pem,
            },
            ports={config.https_port: config.https_port},
        )
        super().__init__(config, spec, opts)

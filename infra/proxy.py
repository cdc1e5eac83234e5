"""The proxy: one HTTPS port for all names of a fleet, published here or by the balancer."""

import pulumi

from caddyfile import PROBE_HOST, PROBE_PORT, caddyfile
from config import StackConfig
from identity import Identity
from network import Networks
from service import Attachment, Service, Spec, http_probe
from vpn import server_names

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
                "Caddyfile": _routes(config, identity),
                "tls.crt": identity.server.certificate_pem,
                "tls.key": identity.server.key_pem,
            },
            ports={} if config.vpn.share_port else {config.https_port: config.https_port},
        )
        super().__init__(config, spec, opts)


def _routes(config: StackConfig, identity: Identity) -> pulumi.Input[str]:
    host, port, servers = config.host, config.https_port, server_names(config)
    if not config.vpn.share_port:
        return caddyfile(host, port, servers)
    return identity.balancer_secret.apply(lambda secret: caddyfile(host, port, servers, secret))

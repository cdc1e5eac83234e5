"""The balancer: the VPN's one port, and the HTTPS port too where the stack shares it."""

import pulumi

import vpn
from config import StackConfig
from haproxy_cfg import PROBE_HOST, PROBE_PORT, Room, SharedPort, haproxy_cfg
from identity import Identity
from network import Networks
from service import Attachment, Service, Spec, http_probe

NAMES = ("vpn", "tunnel")


class Balancer(Service):
    """It has the VPN's public names on both networks, and the same port inside and outside."""

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        public = tuple(f"{name}.{config.host}" for name in NAMES)
        spec = Spec(
            name="balancer",
            user="10006:10006",
            memory=config.memory.balancer,
            probe=http_probe(f"http://{PROBE_HOST}:{PROBE_PORT}/"),
            attachments=(
                Attachment(networks.internal, ("balancer", *public)),
                Attachment(networks.edge, public),
            ),
            files=_files(config, identity),
            ports={config.vpn_port: config.vpn_port},
        )
        super().__init__(config, spec, opts)


def _files(config: StackConfig, identity: Identity) -> dict[str, pulumi.Input[str]]:
    host, port, servers = config.host, config.vpn_port, vpn.server_names(config)
    room = Room(vpn.devices(config), vpn.tunnels(config), config.vpn.connections_per_minute)
    if not config.vpn.share_port:
        return {"haproxy.cfg": haproxy_cfg(host, port, servers, room)}
    return {
        "haproxy.cfg": identity.balancer_secret.apply(
            lambda secret: haproxy_cfg(
                host, port, servers, room, SharedPort("proxy", config.https_port, secret)
            )
        ),
        "tls.pem": pulumi.Output.concat(identity.server.certificate_pem, identity.server.key_pem),
        "ca.crt": identity.authority.certificate_pem,
    }

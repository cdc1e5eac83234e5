"""The VPN: OpenVPN servers, one process a container."""

import pulumi

import api
from config import StackConfig
from gantry.deployment.resources.image import Image
from identity import Identity
from network import Networks
from service import Attachment, Powers, Service, Spec, http_probe

PROXY_PORT = 3128
KILOBYTE = 1000
# MiB of a server's memory that are no device's: the service, openvpn, and whoever is at its doors
# and not judged yet. Of the rest three fifths are devices', at 184 KiB each (openvpn, measured:
# docs/benchmarks.md), and two fifths tunnels' and visitors', at 160 and 80 KiB.
OWN_MEBIBYTES = 128
DEVICES_A_MEBIBYTE, TUNNELS_A_MEBIBYTE = 10 / 3, 5 / 3

# Everything that a VPN server may do and other services may not: root with this one capability.
POWERS = Powers(
    # For the tun interface, its address, and the rules that keep devices apart.
    capabilities=("NET_ADMIN",),
    devices=("/dev/net/tun",),
    # What comes out of a tunnel is the server's or nobody's: nothing is passed on.
    sysctls={"net.ipv4.ip_forward": "0"},
)


def devices(config: StackConfig) -> int:
    """How many devices one server has room for."""
    return int((config.memory.vpn - OWN_MEBIBYTES) * DEVICES_A_MEBIBYTE)


def tunnels(config: StackConfig) -> int:
    """How many people's tunnels one server has room for, and connections to public URLs besides."""
    return int((config.memory.vpn - OWN_MEBIBYTES) * TUNNELS_A_MEBIBYTE)


def server_names(config: StackConfig) -> list[str]:
    """What the servers are called: in the network, in the api, as containers."""
    return [f"vpn-{number}" for number in range(1, config.vpn.servers + 1)]


class VpnServer(Service):
    """Reached inside as `vpn-<number>`; outside through the balancer."""

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        name: str,
        image: Image,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        peers = [each for each in server_names(config) if each != name]
        document = pulumi.Output.json_dumps(
            {
                "fleet": config.fleet,
                "host": config.host,
                "server": name,
                "api_url": api.URL,
                "service_key": identity.service_keys["vpn"],
                # RFC 6598: no site and no engine uses these for its own.
                "address": "100.64.0.1",
                "network": "100.64.0.0/10",
                "rate_bytes_per_second": config.vpn.kilobytes_per_second * KILOBYTE,
                "max_devices": devices(config),
                "max_tunnels": tunnels(config),
                "peers": {each: f"http://{each}:{PROXY_PORT}" for each in peers},
            }
        )
        certificate, key = identity.vpn.certificate_pem, identity.vpn.key_pem
        spec = Spec(
            name=name,
            user="0:0",
            memory=config.memory.vpn,
            probe=http_probe("http://127.0.0.1:8080/healthy"),
            attachments=(Attachment(networks.internal, (name,)),),
            files={
                "vpn.json": document,
                "vpn-ca.crt": identity.authority.certificate_pem,
                "vpn.crt": certificate,
                "vpn.key": key,
                "tls.crt": certificate,
                "tls.key": key,
            },
            powers=POWERS,
        )
        super().__init__(config, spec, opts, image=image)


class Vpn(pulumi.ComponentResource):
    """All servers of a fleet: each device is on one of them, and comes back on any."""

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("gantry:fleet:Vpn", f"{config.fleet}-vpn", None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.image = Image("vpn", "vpn", child)
        self.servers = {
            name: VpnServer(config, networks, identity, name, self.image, child)
            for name in server_names(config)
        }
        self.register_outputs({"image": self.image.tag})

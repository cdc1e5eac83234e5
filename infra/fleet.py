"""A fleet's cloud side: one component that holds one component a service."""

import pulumi

from api import Api
from balancer import Balancer
from builder import Builder
from collector import Collector
from config import StackConfig
from deltas import Deltas
from git import Git
from identity import Identity
from logs import Logs
from nats import Nats
from network import Networks
from postgres import Postgres
from proxy import Proxy
from registry import Registry
from service import Service
from vpn import Vpn


class Fleet(pulumi.ComponentResource):
    """All services of one fleet.

    They start side by side: each waits by itself for those that it needs. The two that may
    publish one port come one after the other.
    """

    def __init__(self, config: StackConfig, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gantry:fleet:Fleet", config.fleet, None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.config = config
        self.networks = networks = Networks(config.fleet, child)
        self.identity = identity = Identity(config, child)
        postgres = Postgres(config, networks, identity, child)
        registry = Registry(config, networks, identity, child)
        proxy, balancer = self._doors(child)
        self.services: dict[str, Service | Vpn] = {
            "postgres": postgres,
            "nats": Nats(config, networks, identity, child),
            "registry": registry,
            "collector": Collector(config, networks, identity, registry, child),
            "api": Api(config, networks, identity, postgres.url, child),
            "logs": Logs(config, networks, identity, child),
            "builder": Builder(config, networks, identity, child),
            "deltas": Deltas(config, networks, identity, child),
            "git": Git(config, networks, identity, child),
            "vpn": Vpn(config, networks, identity, child),
            "balancer": balancer,
            "proxy": proxy,
        }
        self.register_outputs({})

    def _doors(self, child: pulumi.ResourceOptions) -> tuple[Proxy, Balancer]:
        """Both may publish the HTTPS port: who does waits until the other has let it go."""

        def after(first: pulumi.Resource) -> pulumi.ResourceOptions:
            waits = pulumi.ResourceOptions(depends_on=[first])
            return pulumi.ResourceOptions.merge(child, waits)

        parts = (self.config, self.networks, self.identity)
        if self.config.vpn.share_port:
            proxy = Proxy(*parts, child)
            return proxy, Balancer(*parts, after(proxy))
        balancer = Balancer(*parts, child)
        return Proxy(*parts, after(balancer)), balancer

    def outputs(self) -> dict[str, pulumi.Input[object]]:
        """What the stack tells those who use the fleet."""
        config, identity = self.config, self.identity
        return {
            "fleet": config.fleet,
            "host": config.host,
            "https_port": config.https_port,
            "git_port": config.git_port,
            "vpn_port": config.vpn_port,
            "device_type": config.device_type,
            "urls": config.urls(),
            "ca_certificate": identity.authority.certificate_pem,
            "certificates_end": identity.ends(),
            "ssh_host_public_key": identity.ssh_host_key.public,
            "admin_username": config.admin_username,
            "admin_password": identity.admin_password,
            "images": {name: each.image.tag for name, each in self.services.items()},
        }

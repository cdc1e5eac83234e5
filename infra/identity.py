"""What a fleet is known by, and the keys that its services know each other by."""

import pulumi
import pulumi_docker as docker

from config import StackConfig
from gantry.deployment.certificates import end_of
from gantry.deployment.resources.certificates import Certificate, CertificateAuthority
from gantry.deployment.resources.secrets import RandomSecret
from gantry.deployment.resources.ssh_host_key import SshHostKey
from service import data_volume


class Identity(pulumi.ComponentResource):
    """The fleet's authority, certificates, keys and passwords: made once, secret in the state.

    Those that outlive `destroy` are kept in a volume beside the data
    (docs/decisions/0003-secrets-that-outlive-the-state.md).
    """

    def __init__(self, config: StackConfig, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gantry:fleet:Identity", f"{config.fleet}-identity", None, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.volume: docker.Volume = data_volume(config.fleet, "identity", child)
        self.authority = CertificateAuthority(
            "certificate-authority",
            common_name=f"Gantry fleet {config.fleet}",
            volume=self.volume.name,
            opts=child,
        )
        self.server = Certificate(
            "server-certificate",
            authority=self.authority,
            common_name=config.host,
            dns_names=(config.host, f"*.{config.host}", f"*.devices.{config.host}"),
            opts=child,
        )
        # Devices ask of the VPN's certificate that it is a server's, and of this common name.
        self.vpn = Certificate(
            "vpn-certificate",
            authority=self.authority,
            common_name=f"vpn.{config.host}",
            dns_names=(f"vpn.{config.host}", f"tunnel.{config.host}"),
            opts=child,
        )
        self.token = Certificate(
            "token-certificate",
            authority=self.authority,
            common_name=f"tokens of api.{config.host}",
            opts=child,
        )
        self.ssh_host_key = SshHostKey("ssh-host-key", volume=self.volume.name, opts=child)
        self.admin_password = RandomSecret(
            "admin-password", volume=self.volume.name, keep_as="admin-password", opts=child
        ).value
        self.data_key = RandomSecret(
            "data-key", volume=self.volume.name, keep_as="data-key", opts=child
        ).value
        self.database_password = RandomSecret("database-password", opts=child).value
        self.session_secret = RandomSecret("session-secret", opts=child).value
        self.registry_secret = RandomSecret("registry-secret", opts=child).value
        self.balancer_secret = RandomSecret("balancer-secret", opts=child).value
        self.nats_token = RandomSecret("nats-token", opts=child).value
        self.service_keys = {
            name: RandomSecret(f"{name}-service-key", opts=child).value
            for name in ("git", "builder", "logs", "vpn", "deltas", "collector")
        }
        self.register_outputs({})

    def ends(self) -> dict[str, pulumi.Output[str]]:
        """When each certificate ends, in ISO 8601. An `up` renews those that have little left."""
        certificates: dict[str, Certificate | CertificateAuthority] = {
            "authority": self.authority,
            "server": self.server,
            "token": self.token,
            "vpn": self.vpn,
        }
        return {name: each.certificate_pem.apply(end_of) for name, each in certificates.items()}

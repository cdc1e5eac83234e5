"""The api's configuration: one JSON file, checked whole before anything is started."""

from pathlib import Path
from typing import Annotated, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
    model_validator,
)

from gantry import configuration
from gantry.contracts.device_types import device_type

DEFAULT_PATH = Path("/etc/gantry/api.json")

Port = Annotated[int, Field(ge=1, le=65535)]


class ServiceKeys(BaseModel):
    """The secrets by which the fleet's own services prove who they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    git: SecretStr = Field(min_length=16)
    builder: SecretStr = Field(min_length=16)
    logs: SecretStr = Field(min_length=16)
    # None: the fleet has no VPN.
    vpn: Annotated[SecretStr, Field(min_length=16)] | None = None
    # None: the fleet makes no deltas.
    deltas: Annotated[SecretStr, Field(min_length=16)] | None = None
    # None: nothing is removed from the registry.
    collector: Annotated[SecretStr, Field(min_length=16)] | None = None


class RegistrySpace(BaseModel):
    """What of the registry is kept without anybody saying so: of each application the last
    `keep_releases` successes, and what is younger than `keep_days`.

    Blobs go when they are `grace_seconds` old (longer than the longest build), those of removed
    images after `linger_seconds`. Collected `every_hours`; 0: only when it is ordered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_releases: int = Field(default=10, ge=1)
    keep_days: float = Field(default=7, ge=0)
    grace_seconds: int = Field(default=86400, ge=0)
    linger_seconds: int = Field(default=3600, ge=0)
    every_hours: int = Field(default=0, ge=0)


class Config(BaseModel):
    """What one fleet's api needs to know."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    fleet: str = Field(pattern=r"^[a-z][a-z0-9-]{3,62}$")
    host: str = Field(min_length=1)
    https_port: Port
    git_port: Port
    device_type: str
    database_url: SecretStr
    admin_username: str
    admin_password: SecretStr = Field(min_length=8)
    session_secret: SecretStr = Field(min_length=32)
    # Under it what the api must read again is encrypted in the database: it must not change.
    data_key: SecretStr = Field(min_length=32)
    token_key_pem: SecretStr
    token_certificate_pem: str
    ca_certificate_pem: str
    service_keys: ServiceKeys
    registry_space: RegistrySpace = RegistrySpace()
    # Where devices reach the fleet's VPN, at `vpn.<host>`; None: it has none.
    vpn_port: Port | None = None
    # Where its servers take the api's own requests to devices.
    vpn_proxy_port: Port = 3128
    listen_host: str = "0.0.0.0"  # noqa: S104 - inside a container, on the fleet's own network
    listen_port: Port = 8080

    @field_validator("device_type")
    @classmethod
    def _known_device_type(cls, slug: str) -> str:
        return device_type(slug).slug

    @field_validator("token_key_pem")
    @classmethod
    def _p256_key(cls, pem: SecretStr) -> SecretStr:
        key = load_pem_private_key(pem.get_secret_value().encode(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise ValueError("must be an EC private key on the curve P-256")
        return pem

    @field_validator("token_certificate_pem", "ca_certificate_pem")
    @classmethod
    def _certificate(cls, pem: str) -> str:
        load_pem_x509_certificate(pem.encode())
        return pem

    @model_validator(mode="after")
    def _vpn_has_a_key(self) -> Self:
        if self.vpn_port is not None and self.service_keys.vpn is None:
            raise ValueError("vpn_port is set: service_keys.vpn must be, too")
        return self

    def _at(self, name: str) -> str:
        # 443 is left out, as every client writes it: image names must be equal to the letter.
        port = "" if self.https_port == 443 else f":{self.https_port}"
        return f"{name}.{self.host}{port}"

    @property
    def api_url(self) -> str:
        """Where devices and people reach the api."""
        return f"https://{self._at('api')}"

    @property
    def registry(self) -> str:
        """The registry's name and port, the beginning of every image name."""
        return self._at("registry")

    @property
    def delta(self) -> str:
        """The delta server's name and port."""
        return self._at("delta")

    def name(self, name: str) -> str:
        """A public name below the fleet's host, for what is not HTTPS at its port."""
        return f"{name}.{self.host}"

    def url(self, name: str) -> str:
        """The URL of another public name below the fleet's host."""
        return f"https://{self._at(name)}"


def load(path: Path | None = None) -> Config:
    """The configuration in `path`, else in GANTRY_CONFIG, else in /etc/gantry/api.json.

    Raises:
        ConfigError: as `configuration.read`.
    """
    return configuration.load(Config, DEFAULT_PATH, path)

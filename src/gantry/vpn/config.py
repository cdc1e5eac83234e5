"""The configuration file `/etc/gantry/vpn.json`, as infra writes it."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from gantry import configuration

DEFAULT_PATH = Path("/etc/gantry/vpn.json")

Port = Annotated[int, Field(ge=1, le=65535)]
Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]


class Listen(BaseModel):
    """Where the service listens. `openvpn` and `tunnels` are behind the balancer; the others on
    the fleet's own network only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "0.0.0.0"  # noqa: S104 - inside a container
    openvpn: Port = 1194
    tunnels: Port = 3129
    services: Port = 3128
    public_urls: Port = 8081
    health: Port = 8080


class Config(BaseModel):
    """What one VPN server of a fleet needs to know. An unknown key is an error.

    `server` is its name, by which the others and the api reach it; `peers` are the others' CONNECT
    proxies. All servers have the same `address`: devices see one. `rate_bytes_per_second` is each
    device's, in each direction; 0 is no limit. `renegotiate_seconds`: how often keys are made anew,
    and the api is asked again. `max_devices` and `max_tunnels` are what the server's memory has
    room for, as infra/vpn.py reckons; so many connections to public URLs may be open besides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fleet: str = Field(min_length=1)
    host: str = Field(min_length=1)
    server: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")
    api_url: Url
    service_key: SecretStr = Field(min_length=16)
    address: IPv4Address = IPv4Address("100.64.0.1")
    network: IPv4Network = IPv4Network("100.64.0.0/10")
    rate_bytes_per_second: int = Field(default=0, ge=0, le=10**10)
    peers: dict[str, Url] = {}
    max_devices: int = Field(default=2000, ge=1, le=100_000)
    max_tunnels: int = Field(default=1000, ge=1, le=100_000)
    renegotiate_seconds: int = Field(default=3600, ge=10)
    listen: Listen = Listen()
    certificates: Path = Path("/etc/gantry")
    run: Path = Path("/run/gantry")

    @model_validator(mode="after")
    def _address_is_inside(self) -> Self:
        if self.address not in self.network:
            raise ValueError(f"the address {self.address} is not in the network {self.network}")
        if self.server in self.peers:
            raise ValueError(f"the server {self.server} is among its own peers")
        return self


def load(path: Path | None = None) -> Config:
    """The configuration in `path`, else in GANTRY_CONFIG, else in /etc/gantry/vpn.json.

    Raises:
        ConfigError: as `configuration.read`.
    """
    return configuration.load(Config, DEFAULT_PATH, path)

"""What a new virtual device needs of its fleet's cloud side: a config.json and a supervisor."""

import base64
import json
import platform
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import httpx2

from gantry import __version__
from gantry.client.api_client import open_fleet
from gantry.contracts.device_types import Architecture
from gantry.deployment import virtual_device
from gantry.deployment.images import build_image
from gantry.deployment.progress import Progress
from gantry.deployment.virtual_device import DeviceError, Supervisor

TIMEOUT_SECONDS = 30.0
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)


def read_config(path: Path) -> dict[str, Any]:
    """Read a config.json.

    Raises:
        DeviceError: it is unreadable, or lacks what a device cannot start without.
    """
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DeviceError(f"{path} is no config.json: {error}") from error
    missing = [key for key in ("apiEndpoint", "applicationId") if not config.get(key)]
    if missing:
        raise DeviceError(
            f"{path} lacks {' and '.join(missing)}: make one with `gantry config generate`"
        )
    return dict(config)


def download_config(fleet: str, application: str | None = None) -> dict[str, Any]:
    """A config.json with a provisioning key of its own, from the fleet's api.

    `application` is a slug (`user/name`), or a name of the user's; without it, the fleet's name.

    Raises:
        ClientError: nobody is logged in, the api does not answer or refuses, or there is no such
            application for this user.
    """
    with open_fleet(fleet) as client:
        return client.download_config(client.application(application or fleet))


def host_architecture() -> Architecture:
    """What a virtual device's own programs are made for: the machine's architecture.

    Raises:
        DeviceError: the image `virtual-device` is not made for this machine.
    """
    if platform.machine() not in ("x86_64", "amd64"):
        raise DeviceError(f"virtual devices run on amd64 machines, not on {platform.machine()}")
    return Architecture.AMD64


def choose_supervisor(
    config: Mapping[str, Any],
    requested: str | None,
    source: Path | None,
    client: docker.DockerClient,
    progress: Progress,
) -> Supervisor:
    """The image that was asked for; else the fleet's of this version; else one built here.

    An image that the operator's engine has is taken from there, any other the device pulls.
    """
    if source is not None:
        source = package_of(source)
    if requested:
        return Supervisor(requested, virtual_device.has_image(requested, client), source)
    arch = host_architecture()
    reference = f"{registry_of(config)}/gantry/{arch}-supervisor:{__version__}"
    if registry_has(config, reference):
        return Supervisor(reference, local=False, source=source)
    progress(f"the fleet has no {reference} yet: one is built here")
    built = build_image("supervisor", progress, arch=arch, client=client)
    return Supervisor(built.tag, local=True, source=source)


def package_of(path: Path) -> Path:
    """The `gantry` package of a source tree: of a checkout, its src, or the package itself.

    Raises:
        DeviceError: there is no supervisor in it.
    """
    for candidate in (path / "src" / "gantry", path / "gantry", path):
        if (candidate / "supervisor" / "__init__.py").is_file():
            return candidate.resolve()
    raise DeviceError(f"{path} holds no src/gantry/supervisor: name a checkout of Gantry")


def registry_of(config: Mapping[str, Any]) -> str:
    """`registry.<host>:<port>`: named by config.json, else beside the api."""
    if named := config.get("registryEndpoint"):
        return str(named)
    api = urlsplit(str(config["apiEndpoint"]))
    return f"registry.{api.netloc.removeprefix('api.')}"


def registry_has(config: Mapping[str, Any], reference: str) -> bool:
    """Whether the fleet's registry gives this image to the provisioning key of config.json."""
    registry, _, rest = reference.partition("/")
    repository, _, tag = rest.rpartition(":")
    trust = _trust_of(config)
    scope = {"service": registry, "scope": f"repository:{repository}:pull"}
    login = ("provisioning", str(config.get("apiKey", "")))
    try:
        with httpx2.Client(verify=trust, timeout=TIMEOUT_SECONDS) as client:
            url = f"{config['apiEndpoint']}/auth/v1/token"
            token = client.get(url, params=scope, auth=login).raise_for_status().json()["token"]
            answer = client.head(
                f"https://{registry}/v2/{repository}/manifests/{tag}",
                headers={"Authorization": f"Bearer {token}", "Accept": ", ".join(MANIFEST_TYPES)},
            )
            return answer.status_code == 200
    except (httpx2.HTTPError, ValueError, KeyError):
        # The device would not get it either.
        return False


def _trust_of(config: Mapping[str, Any]) -> ssl.SSLContext:
    trust = ssl.create_default_context()
    if encoded := config.get("balenaRootCA"):
        try:
            trust.load_verify_locations(cadata=base64.b64decode(encoded).decode())
        except ValueError as error:
            raise DeviceError(
                f"config.json: balenaRootCA is no base64 of a PEM: {error}"
            ) from error
        except ssl.SSLError as error:
            raise DeviceError(f"config.json: balenaRootCA holds no certificate: {error}") from error
    return trust

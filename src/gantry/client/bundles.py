"""Which release is to be bundled, and what the fleet's api says of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gantry.client import bundle_file, session
from gantry.client.api_client import ApiClient
from gantry.client.errors import NotFoundError, UsageError
from gantry.client.records import Application, Device, Release
from gantry.client.registry import Registry
from gantry.client.trust import trust
from gantry.contracts.bundle import Index
from gantry.contracts.device_types import Architecture, device_type

# The family's names of architectures, and those in images.
_IN_IMAGES = {
    Architecture.RPI: "arm",
    Architecture.ARMV7HF: "arm",
    Architecture.AARCH64: "arm64",
    Architecture.AMD64: "amd64",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A release of an application, for all its devices or for one."""

    application: Application
    release: Release
    device: Device | None


def find(client: ApiClient, what: str, device: str | None) -> Wanted:
    """The release that `APP[/RELEASE]` names; an application may be `user/name`.

    Raises:
        ClientError: one of its kinds.
    """
    application, name = _application(client, what)
    release = _release(client, application, name)
    found = client.device(device) if device else None
    if found is not None and found.application != application.slug:
        raise UsageError(f"{found.name} is a device of {found.application}, not {application.slug}")
    return Wanted(application, release, found)


def _application(client: ApiClient, what: str) -> tuple[Application, str | None]:
    words = what.split("/")
    if len(words) > 3 or not all(words):
        raise UsageError(f"{what!r} is not APP, APP/RELEASE or user/APP/RELEASE")
    if len(words) == 3:
        return client.application("/".join(words[:2])), words[2]
    if len(words) == 1:
        return client.application(what), None
    try:
        return client.application(what), None
    except NotFoundError:
        return client.application(words[0]), words[1]


def _release(client: ApiClient, application: Application, name: str | None) -> Release:
    built = [each for each in client.releases(application) if each.status == "success"]
    if name is None:
        target = next((each for each in built if each.is_target), None)
        if target is None:
            raise NotFoundError(f"{application.slug} has no release to run yet: push one")
        return target
    found = [
        each
        for each in built
        if name in (str(each.id), each.version) or each.commit.startswith(name)
    ]
    # A short number is the beginning of many commits, too.
    exact = [each for each in found if name in (each.commit, str(each.id), each.version)] or found
    if not exact:
        raise NotFoundError(
            f"{application.slug} has no finished release {name!r}: `gantry releases` has them"
        )
    if len(exact) > 1:
        raise UsageError(f"{name!r} is not one release: use more of a commit")
    return exact[0]


def create(
    client: ApiClient, fleet: str, wanted: Wanted, path: Path, moved: Callable[[int, int], None]
) -> Index:
    """Write the bundle; what is in it.

    Raises:
        ClientError: one of its kinds.
    """
    application = wanted.application
    app = client.fleet_app(application, wanted.release.commit)
    if wanted.device is not None:
        _add_own_variables(client, wanted.device, app["releases"][wanted.release.commit])
    release = bundle_file.Release(
        application.uuid, app, wanted.device.uuid if wanted.device else None
    )
    login = (client.whoami().username, client.token or "")
    certificate = session.ca_path(fleet)
    context = trust(certificate if certificate.exists() else None)
    architecture = _IN_IMAGES[device_type(application.device_type).architecture]
    return bundle_file.write_bundle(
        release, lambda address: Registry(address, login, context), path, architecture, moved
    )


def _add_own_variables(client: ApiClient, device: Device, release: dict[str, Any]) -> None:
    """A device's own variables go before the fleet's, those of its services before them."""
    own = {each.name: each.value for each in client.variables(device)}
    of_services = client.service_variables(device)
    for name, service in release["services"].items():
        service["environment"] = {
            **service["environment"],
            **own,
            **of_services.get(name, {}),
        }

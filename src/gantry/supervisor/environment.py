"""The variables that a container gets beside its user's own.

The list is the family's (https://docs.balena.io/learn/develop/runtime/#environment-variables); each
is given twice, with `BALENA_` and with the older `RESIN_`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gantry.supervisor import VERSION
from gantry.supervisor.features import Feature

LOCK_PATH = "/tmp/balena/updates.lock"  # noqa: S108 (a path in the application's container)
HANDOVER_PATH = "/tmp/balena/handover-complete"  # noqa: S108

# A change of these alone restarts nothing: an unchanged service of a new release runs on, and so
# does a preloaded one when the device hears its name.
VOLATILE = frozenset(
    f"{prefix}_{name}"
    for prefix in ("BALENA", "RESIN")
    for name in (
        "APP_RELEASE",
        "APP_COMMIT",
        "SUPERVISOR_VERSION",
        "HOST_OS_VERSION",
        "DEVICE_NAME_AT_INIT",
    )
) | {"RESIN_SERVICE_KILL_ME_PATH"}


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a container may know of its device.

    `name_at_init` is the device's name when it was first heard; `bridge_address` the host's address
    as containers on the engine's bridges reach it; `supervisor_keys` those of the HTTP API, by the
    application's id. `boot` is another one at each start of the host; without it nothing waits for
    a restart. `os_version` is the system's whole name, `os_number` its version alone, `kernel` that
    of Linux.
    """

    uuid: str
    name_at_init: str
    device_type: str
    architecture: str
    os_version: str
    api_url: str
    device_key: str
    supervisor_keys: Mapping[int, str]
    supervisor_port: int
    bridge_address: str
    docker_socket: str
    runtime_directory: str
    instance: str
    boot: str = ""
    os_number: str = ""
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class ServiceFacts:
    """What a container may know of itself."""

    app_id: int
    app_uuid: str
    app_name: str
    commit: str
    service: str


def service_environment(
    device: DeviceFacts,
    service: ServiceFacts,
    user: Mapping[str, str],
    features: frozenset[Feature],
    host_network: bool,
) -> dict[str, str]:
    """All variables of a service's container; ours win over the user's, as with the family."""
    ours = {
        "APP_ID": str(service.app_id),
        "APP_UUID": service.app_uuid,
        "APP_NAME": service.app_name,
        "APP_RELEASE": service.commit,
        "APP_COMMIT": service.commit,
        "SERVICE_NAME": service.service,
        "DEVICE_UUID": device.uuid,
        "DEVICE_NAME_AT_INIT": device.name_at_init,
        "DEVICE_TYPE": device.device_type,
        "DEVICE_ARCH": device.architecture,
        "HOST_OS_VERSION": device.os_version,
        "SUPERVISOR_VERSION": VERSION,
        "APP_LOCK_PATH": LOCK_PATH,
        "SERVICE_HANDOVER_COMPLETE_PATH": HANDOVER_PATH,
    }
    if Feature.SUPERVISOR_API in features:
        host = "127.0.0.1" if host_network else device.bridge_address
        ours |= {
            "SUPERVISOR_HOST": host,
            "SUPERVISOR_PORT": str(device.supervisor_port),
            "SUPERVISOR_ADDRESS": f"http://{host}:{device.supervisor_port}",
            "SUPERVISOR_API_KEY": device.supervisor_keys.get(service.app_id, ""),
        }
    if Feature.BALENA_API in features:
        ours |= {"API_URL": device.api_url, "API_KEY": device.device_key}
    found = dict(user)
    for prefix in ("RESIN", "BALENA"):
        found[prefix] = "1"
        found |= {f"{prefix}_{name}": value for name, value in ours.items()}
    found["RESIN_SERVICE_KILL_ME_PATH"] = HANDOVER_PATH  # an older name
    found.setdefault("USER", "root")
    if Feature.BALENA_SOCKET in features:
        found["DOCKER_HOST"] = "unix:///host/run/balena-engine.sock"
    return found

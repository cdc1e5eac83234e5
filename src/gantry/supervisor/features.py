"""What a service asks of its host by label `io.balena.features.*` (or the older `io.resin.`).

The list is the family's (https://docs.balena.io/reference/supervisor/docker-compose/#labels).
"""

from collections.abc import Mapping
from enum import StrEnum

from gantry.supervisor import wire


class Feature(StrEnum):
    """A wish of a service; the value is the label's last part."""

    SUPERVISOR_API = "supervisor-api"
    BALENA_API = "balena-api"
    BALENA_SOCKET = "balena-socket"
    DBUS = "dbus"
    SYSFS = "sysfs"
    PROCFS = "procfs"
    KERNEL_MODULES = "kernel-modules"
    FIRMWARE = "firmware"
    JOURNAL_LOGS = "journal-logs"
    GPU = "gpu"
    EXTRA_FIRMWARE = "extra-firmware"


_OLDER_NAMES = {Feature.BALENA_API: "resin-api"}

_BINDS: Mapping[Feature, tuple[str, ...]] = {
    Feature.DBUS: ("/run/dbus:/host/run/dbus",),
    Feature.SYSFS: ("/sys:/sys",),
    Feature.PROCFS: ("/proc:/proc",),
    Feature.KERNEL_MODULES: ("/lib/modules:/lib/modules",),
    Feature.FIRMWARE: ("/lib/firmware:/lib/firmware",),
    Feature.JOURNAL_LOGS: (
        "/var/log/journal:/var/log/journal:ro",
        "/run/log/journal:/run/log/journal:ro",
        "/etc/machine-id:/etc/machine-id:ro",
    ),
}


def wanted_features(labels: Mapping[str, str]) -> frozenset[Feature]:
    """The features that these labels ask for."""
    return frozenset(
        feature
        for feature in Feature
        if wire.flag(labels.get(f"io.balena.features.{feature}"))
        or wire.flag(labels.get(f"io.resin.features.{_OLDER_NAMES.get(feature, feature)}"))
    )


def feature_binds(features: frozenset[Feature], docker_socket: str) -> list[str]:
    """The engine's Binds for these features; `docker_socket` is a path of the host."""
    binds = [bind for feature in sorted(features) for bind in _BINDS.get(feature, ())]
    if Feature.BALENA_SOCKET in features:
        for inside in ("/host/run/balena-engine.sock", "/var/run/balena.sock"):
            binds.append(f"{docker_socket}:{inside}")
    return binds

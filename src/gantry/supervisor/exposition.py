"""The device's figures for Prometheus, in its text format, version 0.0.4. Pure but for /proc/self.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/. No library: the official one
costs more memory than the whole of this API.
"""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gantry.supervisor import VERSION
from gantry.supervisor.deltas.door import DeltaFigures
from gantry.supervisor.keys import Scope
from gantry.supervisor.locks import LockHolder
from gantry.supervisor.progress import Received
from gantry.supervisor.views import Picture, applications_state

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_MEGABYTE = 1024**2


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: a value under a name, with labels."""

    name: str
    value: float
    labels: Mapping[str, str] | None = None


# Type and meaning of each name, in the order in which they are written.
_METRICS: Mapping[str, tuple[str, str]] = {
    "gantry_supervisor_info": ("gauge", "The supervisor's version, as a label."),
    "process_resident_memory_bytes": ("gauge", "Resident memory of the supervisor."),
    "process_cpu_seconds_total": ("counter", "Processor time of the supervisor."),
    "gantry_supervisor_poll_failures": ("gauge", "Polls that failed since the last that did not."),
    "gantry_supervisor_poll_age_seconds": ("gauge", "Time since the api last answered a poll."),
    "gantry_supervisor_delta_images_total": ("counter", "Images that came by delta."),
    "gantry_supervisor_delta_whole_total": ("counter", "Images that had to come whole instead."),
    "gantry_supervisor_delta_bytes_total": ("counter", "Bytes of the deltas that images came by."),
    "gantry_supervisor_delta_saved_bytes_total": (
        "counter",
        "Bytes that pulls of these images would have fetched beyond that.",
    ),
    "gantry_device_cpu_usage_ratio": ("gauge", "Share of the processor in use, 0 to 1."),
    "gantry_device_cpu_temperature_celsius": ("gauge", "Temperature of the processor."),
    "gantry_device_memory_total_bytes": ("gauge", "Memory of the device."),
    "gantry_device_memory_used_bytes": ("gauge", "Memory in use."),
    "gantry_device_storage_total_bytes": ("gauge", "Room on the data partition."),
    "gantry_device_storage_used_bytes": ("gauge", "Room in use on the data partition."),
    "gantry_device_undervolted": ("gauge", "1 while the power supply is too weak."),
    "gantry_application_settled": ("gauge", "1 while the application runs its target release."),
    "gantry_application_locks": ("gauge", "How many hold the application's update lock."),
    "gantry_service_up": ("gauge", "1 while the service's container runs."),
    "gantry_service_download_ratio": ("gauge", "How much of the image is here, 0 to 1."),
    "gantry_service_download_bytes": ("gauge", "Bytes of the delta or the pull that are here."),
    "gantry_service_download_size_bytes": ("gauge", "Bytes of the delta or the pull in all."),
}

# From the figures that are reported to the api: their name here, and the factor to base units.
_FIGURES: Mapping[str, tuple[str, float]] = {
    "cpu_usage": ("gantry_device_cpu_usage_ratio", 0.01),
    "cpu_temp": ("gantry_device_cpu_temperature_celsius", 1),
    "memory_total": ("gantry_device_memory_total_bytes", _MEGABYTE),
    "memory_usage": ("gantry_device_memory_used_bytes", _MEGABYTE),
    "storage_total": ("gantry_device_storage_total_bytes", _MEGABYTE),
    "storage_usage": ("gantry_device_storage_used_bytes", _MEGABYTE),
    "is_undervolted": ("gantry_device_undervolted", 1),
}


def of_process() -> Iterable[Sample]:
    """The supervisor itself."""
    yield Sample("gantry_supervisor_info", 1, {"version": VERSION})
    times = os.times()
    yield Sample("process_cpu_seconds_total", times.user + times.system)
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        yield Sample("process_resident_memory_bytes", pages * os.sysconf("SC_PAGE_SIZE"))


def of_polls(failures: int, age: float | None) -> Iterable[Sample]:
    """How it stands with the api; `age` is the time since it last answered, in seconds."""
    yield Sample("gantry_supervisor_poll_failures", failures)
    if age is not None:
        yield Sample("gantry_supervisor_poll_age_seconds", age)


def of_deltas(figures: DeltaFigures) -> Iterable[Sample]:
    """Updates by delta, since the supervisor's start."""
    yield Sample("gantry_supervisor_delta_images_total", figures.images)
    yield Sample("gantry_supervisor_delta_whole_total", figures.whole)
    yield Sample("gantry_supervisor_delta_bytes_total", figures.downloaded)
    yield Sample("gantry_supervisor_delta_saved_bytes_total", figures.saved)


def of_figures(figures: Mapping[str, object]) -> Iterable[Sample]:
    """The machine: what `metrics.Metrics.read` gives."""
    for key, (name, factor) in _FIGURES.items():
        value = figures.get(key)
        if isinstance(value, int | float):
            yield Sample(name, value * factor)


def of_applications(
    picture: Picture, holders: Iterable[LockHolder], scope: Scope
) -> Iterable[Sample]:
    """What a key may see of the applications."""
    locks = [each.app_id for each in holders]
    for name, app in applications_state(picture, scope).items():
        labels = {"app_id": str(app["appId"]), "app": name}
        yield Sample("gantry_application_settled", app["updateStatus"] == "done", labels)
        yield Sample("gantry_application_locks", locks.count(app["appId"]), labels)
        here = picture.services(app["appId"])
        for service, each in app["services"].items():
            labelled = labels | {"service": service}
            container = here.get(service)
            up = container is not None and picture.status(container) == "Running"
            yield Sample("gantry_service_up", up, labelled)
            if each["downloadProgress"] is not None:
                ratio = each["downloadProgress"] / 100
                yield Sample("gantry_service_download_ratio", ratio, labelled)
                yield from _of_download(picture.received.get(each["image"]), labelled)


def _of_download(received: Received | None, labels: Mapping[str, str]) -> Iterable[Sample]:
    if received is not None:
        labelled = {**labels, "way": received.way.value}
        yield Sample("gantry_service_download_bytes", received.done, labelled)
        if received.total is not None:
            yield Sample("gantry_service_download_size_bytes", received.total, labelled)


def exposition(samples: Iterable[Sample]) -> str:
    """The text. Samples of one name stand together, as the format demands."""
    lines: dict[str, list[str]] = {name: [] for name in _METRICS}
    for each in samples:
        labels = ",".join(
            f'{key}="{_escaped(value)}"' for key, value in (each.labels or {}).items()
        )
        lines[each.name].append(
            f"{each.name}{{{labels}}} {float(each.value):.12g}"
            if labels
            else f"{each.name} {float(each.value):.12g}"
        )
    text: list[str] = []
    for name, (kind, meaning) in _METRICS.items():
        if lines[name]:
            text += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *lines[name]]
    return "\n".join(text) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

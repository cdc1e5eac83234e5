"""The figures of a simulation, as JSON and as the rows of tables."""

import resource
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gantry.simulator.figures import Figures, Histogram, Kind, Phase, Release, quantile

if TYPE_CHECKING:
    from gantry.simulator.simulation import Sample, Simulation

_MIB = 1024**2
_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def results(simulation: "Simulation") -> dict[str, Any]:
    """Everything that was measured. Latencies are in ms, times of releases in s, memory in MiB,
    processor time in cores."""
    plan, figures = simulation.plan, simulation.figures
    return {
        "devices": plan.devices,
        "seconds": round(figures.now(), 1),
        "scale": plan.scale,
        "streams": plan.streams,
        "requests": {kind: each for kind in Kind if (each := _latency(figures.histogram(kind)))},
        "phases": {
            phase: {
                kind: each for kind in Kind if (each := _latency(figures.histogram(kind, phase)))
            }
            for phase in Phase
        },
        "errors": dict(figures.errors),
        "peak_requests_per_second": figures.peak(),
        "releases": {commit: _release(each, figures) for commit, each in figures.releases.items()},
        "servers": servers(simulation.samples),
        "simulator": _simulator(figures.now()),
    }


def _simulator(seconds: float) -> dict[str, float]:
    """What this process itself takes: the most memory, and the cores that it kept busy."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "memory": round(usage.ru_maxrss / 1024),
        "cores": round((usage.ru_utime + usage.ru_stime) / max(1.0, seconds), 2),
    }


def _latency(histogram: Histogram) -> dict[str, float]:
    if not histogram.count:
        return {}
    shares = {name: histogram.quantile(share) for name, share in _SHARES.items()}
    milliseconds = {name: round(each * 1000, 1) for name, each in shares.items()}
    return {"count": histogram.count, **milliseconds, "max": round(histogram.most * 1000, 1)}


def _release(release: Release, figures: Figures) -> dict[str, Any]:
    return {
        "peak_requests_per_second": figures.peak(release.begun),
        "peak_announcements_per_second": max(
            (each for second, each in figures.announcements.items() if second >= release.begun - 1),
            default=0,
        ),
        "seen": _times(release.seen),
        "running": _times(release.running),
    }


def _times(values: Sequence[float]) -> dict[str, float]:
    shares = {name: round(quantile(values, share), 2) for name, share in _SHARES.items()}
    return {"devices": len(values), **shares, "max": round(max(values, default=0.0), 2)}


def servers(samples: Sequence["Sample"]) -> dict[str, Any]:
    """The most memory of each server and of all together at one time; the cores that each kept
    busy, by phase."""
    if not samples:
        return {}
    names = list(samples[0].usage)
    peak = {name: max(each.usage[name].memory for each in samples) for name in names}
    together = max(sum(usage.memory for usage in each.usage.values()) for each in samples)
    return {
        "memory": {name: round(each / _MIB) for name, each in peak.items()},
        "memory_together": round(together / _MIB),
        "cores": {
            phase: {name: round(each, 2) for name, each in found.items()}
            for phase in Phase
            if (found := _cores(samples, phase, names))
        },
    }


def _cores(samples: Sequence["Sample"], phase: Phase, names: Sequence[str]) -> dict[str, float]:
    pairs = [(one, two) for one, two in pairwise(samples) if two.phase is phase]
    seconds = sum(two.at - one.at for one, two in pairs)
    if seconds <= 0:
        return {}
    return {
        name: sum(two.usage[name].processor - one.usage[name].processor for one, two in pairs)
        / seconds
        for name in names
    }


def request_rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """Kind, phase, number, and the quantiles in ms."""
    for phase, kinds in found["phases"].items():
        for kind, each in kinds.items():
            yield [kind, phase, *(f"{value:g}" for value in each.values())]


def release_rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    """Commit, what of it, number of devices, and the quantiles in s."""
    for commit, release in found["releases"].items():
        for what in ("seen", "running"):
            yield [commit[:7], what, *(f"{value:g}" for value in release[what].values())]


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What is no table."""
    yield f"{found['devices']} devices, {found['seconds']:.0f} s, time × {found['scale']:g}"
    yield f"most requests in a second: {found['peak_requests_per_second']}"
    for commit, release in found["releases"].items():
        yield (
            f"after {commit[:7]}: at most {release['peak_requests_per_second']} requests and "
            f"{release['peak_announcements_per_second']} announcements in a second"
        )
    if memory := found["servers"].get("memory"):
        told = ", ".join(f"{name} {each} MiB" for name, each in memory.items())
        yield f"memory at most: {told}; together {found['servers']['memory_together']} MiB"
        for phase, cores in found["servers"]["cores"].items():
            told = ", ".join(f"{name} {each:.2f}" for name, each in cores.items())
            yield f"cores at work ({phase}): {told}"
    for error, count in found["errors"].items():
        yield f"error: {error} × {count}"

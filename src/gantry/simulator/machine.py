"""The figures of a board that is not there."""

from random import Random

_MEMORY_MB, _STORAGE_MB = 968, 14_800
# What one look differs from the one before, at most: percent, degrees, megabytes.
_STEPS = {"cpu_usage": 12, "cpu_temp": 3, "memory_usage": 8}
_BOUNDS = {"cpu_usage": (1, 95), "cpu_temp": (35, 75), "memory_usage": (180, 900)}


class Machine:
    """Figures that wander as those of a board at work do: some looks are worth a report."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._figures = {"cpu_usage": 10, "cpu_temp": 48, "memory_usage": 320}
        self._storage = chance.randint(2_000, 6_000)

    def read(self) -> dict[str, int | str]:
        """As the supervisor's own `Metrics.read`, with the same names and units."""
        for name, step in _STEPS.items():
            least, most = _BOUNDS[name]
            moved = self._figures[name] + self._chance.randint(-step, step)
            self._figures[name] = min(most, max(least, moved))
        return {
            **self._figures,
            "memory_total": _MEMORY_MB,
            "storage_total": _STORAGE_MB,
            "storage_usage": self._storage,
        }

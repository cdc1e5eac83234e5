"""What the figures say: tables, ratios, and what was not reached of what was asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks import machine
from tests.benchmarks.deltas.measure import MIB, Cost

OURS = "gantry"
PULL = "registry pull (gzip)"
APPLY_MEMORY = 32 * MIB
SMALL_BYTES = 1500
# tar-diff's, for the first of the pairs.
GENERATE_SECONDS, GENERATE_MEMORY = 14.0, 180 * MIB


@dataclass(frozen=True, slots=True)
class Result:
    """One tool on one pair: bytes to download, and what the two ends spend."""

    tool: str
    size: int
    generate: Cost
    apply: Cost


def table(results: Sequence[Result]) -> str:
    """One pair, the smallest first."""
    pull = next((each.size for each in results if each.tool == PULL), 0)
    rows = []
    for each in sorted(results, key=lambda each: each.size):
        name = f"**{each.tool}**" if each.tool == OURS else each.tool
        share = f"{100 * each.size / pull:.1f} %" if pull else ""
        rows.append([name, f"{each.size:,}", share, *_cost(each.generate), *_cost(each.apply)])
    head = ["tool", "bytes", "of the pull", "generate", "cpu", "MiB", "apply", "cpu", "MiB"]
    return machine.table(head, rows)


def _cost(cost: Cost) -> list[str]:
    return [f"{cost.seconds:.1f} s", f"{cost.processor:.1f} s", f"{cost.memory / MIB:.0f}"]


def summary(results: Mapping[str, Sequence[Result]]) -> str:
    """All pairs: ours, the pull, and the best of the others."""
    rows = []
    for pair, found in results.items():
        mine = next((each for each in found if each.tool == OURS), None)
        others = sorted((each for each in found if each.tool != OURS), key=lambda each: each.size)
        if mine is None or not others:
            continue
        pull = next((each.size for each in others if each.tool == PULL), 0)
        best = others[0]
        rows.append(
            [
                pair,
                f"{mine.size:,}",
                f"{pull / mine.size:.1f}" if pull else "",
                f"{best.tool}: {best.size:,}",
                f"{best.size / mine.size:.2f}",
                f"{mine.apply.memory / MIB:.0f} MiB",
            ]
        )
    head = ["pair", "gantry", "pull / gantry", "best other", "other / gantry", "to apply"]
    return machine.table(head, rows)


def faults(results: Mapping[str, Sequence[Result]]) -> list[str]:
    """What was asked for and not reached, a sentence each."""
    said = []
    for pair, found in results.items():
        mine = next((each for each in found if each.tool == OURS), None)
        if mine is None:
            continue
        said += [
            f"{pair}: {mine.size:,} bytes, {each.tool} needs {each.size:,}"
            for each in found
            if each.size < mine.size
        ]
        if mine.apply.memory > APPLY_MEMORY:
            said.append(f"{pair}: {mine.apply.memory / MIB:.1f} MiB to apply, 32 are allowed")
        if pair == "small" and mine.size > SMALL_BYTES:
            said.append(f"{pair}: {mine.size:,} bytes, {SMALL_BYTES:,} are allowed")
        slow = mine.generate.seconds > GENERATE_SECONDS
        if pair == "security" and (slow or mine.generate.memory > GENERATE_MEMORY):
            spent = f"{mine.generate.seconds:.1f} s and {mine.generate.memory / MIB:.0f} MiB"
            said.append(f"{pair}: {spent} to generate, 14 s and 180 MiB are allowed")
    return said

"""What was made of each file of a layer."""

import os
from collections.abc import Sequence

from gantry.deltas.create.options import FileSummary
from gantry.deltas.create.telling import Plan
from gantry.deltas.format import Layer
from gantry.deltas.inspect import shares


def files(
    plans: Sequence[Plan], told: Sequence[tuple[int, int]], layer: Layer
) -> tuple[FileSummary, ...]:
    """The files that have content; `told` are the bytes of each plan that were changed, and new."""
    found = []
    for plan, encoded in zip(plans, shares(layer, told), strict=True):
        entry, match = plan.entry, plan.match
        if not entry.content or not entry.path:
            continue
        how = "new" if match is None else "patched" if match.patched else "copied"
        source = os.fsdecode(match.source.path) if match else None
        found.append(FileSummary(os.fsdecode(entry.path), entry.content, how, source, encoded))
    return tuple(found)

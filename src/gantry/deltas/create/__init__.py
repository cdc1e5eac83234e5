"""Making of deltas: on the cloud side and on an operator's machine, never on a device."""

from gantry.deltas.create.creating import create
from gantry.deltas.create.limit import TooLargeError
from gantry.deltas.create.options import (
    FileSummary,
    LayerSummary,
    LayerTar,
    Options,
    Progress,
    Summary,
)

__all__ = [
    "FileSummary",
    "LayerSummary",
    "LayerTar",
    "Options",
    "Progress",
    "Summary",
    "TooLargeError",
    "create",
]

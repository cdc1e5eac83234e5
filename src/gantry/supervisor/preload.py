"""Imports all that a running supervisor will import, also what is imported late.

The image is made with this, so that the bytecode of every module is in it; the benchmark starts
from it.
"""

import importlib

LATE = (
    "anyio._backends._asyncio",
    "encodings.idna",
    "gantry.deltas.apply",
    "gantry.supervisor.__main__",
    "gantry.supervisor.apps_json",
    "gantry.supervisor.bundle_apply",
    "gantry.supervisor.deltas.bring",
    "gantry.supervisor.watch",
    "httpcore2",
    "stringprep",
)

for _name in LATE:
    importlib.import_module(_name)

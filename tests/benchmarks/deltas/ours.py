"""Making of a delta as devices get it, as a process of its own: memory and time are measured.

python -m tests.benchmarks.deltas.ours OUT --source DIFFID=TAR … --target DIFFID=TAR …
"""

import argparse
from pathlib import Path

from gantry.deltas.create import LayerTar, Options, create

NO_CONFIG = "sha256:" + 64 * "0"


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--source", type=_layer, action="append", default=[])
    parser.add_argument("--target", type=_layer, action="append", default=[])
    options = parser.parse_args()
    create(options.source, options.target, NO_CONFIG, options.out, Options(bare=True))


def _layer(text: str) -> LayerTar:
    diff_id, _, path = text.partition("=")
    return LayerTar(diff_id, Path(path))


if __name__ == "__main__":
    main()

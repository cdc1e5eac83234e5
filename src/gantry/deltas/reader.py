"""Reading of a delta's header and index."""

import os
from dataclasses import dataclass
from pathlib import Path

from gantry.deltas import index as beginning
from gantry.deltas.format import BareError, DeltaError, Index, Layer
from gantry.deltas.names import Names

__all__ = ["BareError", "Delta", "DeltaError", "DeltaLayer", "Names"]


@dataclass(frozen=True, slots=True)
class DeltaLayer:
    """A layer that a delta can rebuild: bytes of its tar, and bytes in the delta."""

    diff_id: str
    size: int
    encoded: int


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta in a file, whose header and index are sound, and what it is for."""

    path: Path
    index: Index
    names: Names

    @classmethod
    def open(cls, path: Path, names: Names | None = None) -> "Delta":
        """Read header, names and index, at most a megabyte. `names` are what it is to be for: a
        bare delta holds none, and another may be for anything where none are given.

        Raises:
            OSError: the file cannot be read.
            BareError: it is a bare one.
            DeltaError: it is no delta, of another version, damaged, not whole, or for others.
        """
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            found, index = beginning.read(stream, size, names)
        return cls(path, index, found)

    @property
    def sources(self) -> tuple[str, ...]:
        """The diffIDs of the source layers that it reads from, the lowest first."""
        return self.names.sources

    @property
    def layers(self) -> tuple[DeltaLayer, ...]:
        return tuple(
            DeltaLayer(diff_id, each.size, each.encoded)
            for diff_id, each in zip(self.names.layers, self.index.layers, strict=True)
        )

    @property
    def config(self) -> str:
        """The digest of the target image's configuration."""
        return self.names.config

    def find(self, diff_id: str) -> tuple[Layer, int]:
        """A layer, and where its groups begin in the file.

        Raises:
            DeltaError: there is none of this diffID.
        """
        offset = self.path.stat().st_size - self.index.payload
        for name, layer in zip(self.names.layers, self.index.layers, strict=True):
            if name == diff_id:
                return layer, offset
            offset += layer.payload
        raise DeltaError(f"the delta does not hold the layer {diff_id}")

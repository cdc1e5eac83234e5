"""Reading of a delta's header and index."""

import os
from dataclasses import dataclass
from pathlib import Path

from gantry.deltas.format import (
    HEADER_LENGTH,
    DeltaError,
    Index,
    Layer,
    read_header,
    read_index,
)

__all__ = ["Delta", "DeltaError", "DeltaLayer"]


@dataclass(frozen=True, slots=True)
class DeltaLayer:
    """A layer that a delta can rebuild: bytes of its tar, and bytes in the delta."""

    diff_id: str
    size: int
    encoded: int


@dataclass(frozen=True, slots=True)
class Delta:
    """A delta in a file, whose header and index are sound."""

    path: Path
    index: Index

    @classmethod
    def open(cls, path: Path) -> "Delta":
        """Read header and index, at most a megabyte.

        Raises:
            OSError: the file cannot be read.
            DeltaError: it is no delta, of another version, damaged, or not whole.
        """
        with path.open("rb") as stream:
            length, check = read_header(stream.read(HEADER_LENGTH))
            index = read_index(stream.read(length), check)
            total = os.fstat(stream.fileno()).st_size
        expected = HEADER_LENGTH + length + index.payload
        if total != expected:
            raise DeltaError(f"the delta has {total} bytes, and should have {expected}")
        return cls(path, index)

    @property
    def sources(self) -> tuple[str, ...]:
        """The diffIDs of the source layers that it reads from, the lowest first."""
        return self.index.sources

    @property
    def layers(self) -> tuple[DeltaLayer, ...]:
        return tuple(
            DeltaLayer(each.diff_id, each.size, each.encoded) for each in self.index.layers
        )

    @property
    def config(self) -> str:
        """The digest of the target image's configuration."""
        return self.index.config

    def find(self, diff_id: str) -> tuple[Layer, int]:
        """A layer, and where its groups begin in the file.

        Raises:
            DeltaError: there is none of this diffID.
        """
        offset = self.path.stat().st_size - self.index.payload
        for layer in self.index.layers:
            if layer.diff_id == diff_id:
                return layer, offset
            offset += layer.encoded
        raise DeltaError(f"the delta does not hold the layer {diff_id}")

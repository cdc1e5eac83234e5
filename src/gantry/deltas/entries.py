"""The entries of a layer, as a delta tells them: what both its writer and its reader know.

Each entry begins with a byte in the column KINDS; its bits say where name, shape, time, other
fields and content come from. Whatever is foretold rightly costs this byte alone.
"""

from dataclasses import dataclass, field
from enum import IntEnum

from gantry.deltas.headers import USUAL_SHAPES, Shape

# Bits 0 and 1: the name.
NAME_NEXT = 0  # the walk's next
NAME_SKIP = 1  # the walk's next after some (LENGTHS)
NAME_NEW = 2  # bytes shared with the name before (LENGTHS), and the others (NAMES)
SPECIAL = 3  # no entry: bits 2 to 7 are one of Special
# Bit 2: a shape of its own (FORMS, SHAPES), else that of the entry of this type before, or of the
# entry before, or the first one.
OTHER_SHAPE = 1 << 2
# Bits 3 and 4: the time.
TIME_SHIFT = 3
TIME_FORETOLD = 0  # the source file's, or that of the entry before
TIME_BEFORE = 1  # of the entry before
TIME_OTHER = 2  # difference to the entry before (TIMES)
# Bit 5: other fields differ from what is foretold (META).
OTHER_FIELDS = 1 << 5
# Bits 6 and 7: the content.
BODY_SHIFT = 6
BODY_FORETOLD = 0  # the source file's, or none
BODY_NEW = 1  # NEW, or EXTENDED for entries that tell of the next
BODY_PATCH = 2  # the source file's, patched
BODY_REFERENCE = 3  # from another file (REFERENCES, MIDDLES)

# Bits of META.
TYPE, MODE, UID, GID, SIZE, LINK = (1 << bit for bit in range(6))

SHAPES_LIMIT = 4096
REGULAR = ord("0")
# Not every program that unpacks sets the times of symbolic links: none is foretold from them.
SYMLINK = ord("2")
# pax headers and GNU's long names: their content goes to the column EXTENDED.
EXTENDED_TYPES = frozenset(b"xgLK")
# Types whose size is no content's: links, devices, folders, pipes.
EMPTY_TYPES = frozenset(b"123456")


class Special(IntEnum):
    """What is no entry."""

    PLAIN = 0  # bytes of NEW, so many (LENGTHS)
    ZEROS = 1  # so many zeros (LENGTHS)
    REST = 2  # zeros up to the layer's end


# A step of a patch begins with a number (ADDS): one more than bytes of the source that differences
# are added to. 0 is for bytes that are taken as they are, so many as the next number says, or if
# that is 0 too, all up to the file's end.
STEP_EXACT = 0
EXACT_REST = 0


@dataclass(slots=True)
class Before:
    """What the entries before have left for foretelling those that follow."""

    path: bytes = b""
    mtime: int | None = None
    owners: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    shapes: list[Shape] = field(default_factory=lambda: list(USUAL_SHAPES))
    by_type: dict[int, int] = field(default_factory=dict)
    last: int = 0

    def owner(self, kind: int) -> tuple[int, int, int]:
        """Mode, uid and gid of the entry of this type before."""
        return self.owners.get(kind, (0, 0, 0))

    def time(self, foretold: int | None) -> int:
        """The mtime of the entry before; of the first one what is foretold."""
        return self.mtime if self.mtime is not None else foretold or 0

    def shape(self, kind: int) -> int:
        """The number of the shape that is foretold."""
        return self.by_type.get(kind, self.last)

    def use(self, kind: int, shape: int) -> None:
        """An entry of this type has this shape."""
        self.by_type[kind] = self.last = shape

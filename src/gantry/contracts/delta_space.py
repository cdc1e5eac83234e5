"""What the delta server keeps, and what of it goes and why: between that server and the collector.

It is told inside the fleet alone, to whom the api gives a token of action `delete` on `deltas`.
Sizes are in bytes. An image is `NAME@sha256:…`, without the registry's host.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from gantry.contracts.deltas import DeltaContractError

# `POST {"going": [image, …]}`: what would go now if these images had gone. Removes nothing.
LOOK_PATH = "/gantry/v1/space/look"
# `POST`: removes what goes now.
COLLECT_PATH = "/gantry/v1/space/collect"
# What a token for either is for, as if all deltas were one repository.
ALL_DELTAS = "deltas"


class DeltaReason(StrEnum):
    """Why a delta goes."""

    IMAGE = "an image of it goes, or is gone"
    UNUSED = "nobody wanted it for long"
    ROOM = "the deltas are over their limit"
    STRAY = "no pair has it"


@dataclass(frozen=True, slots=True)
class LeavingDelta:
    """A delta that goes. `size` is what that frees: nothing where another pair has the same file.
    One that no pair has is from nowhere, and to nowhere (empty texts)."""

    src: tuple[str, ...]
    dest: str
    size: int
    reason: str

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "LeavingDelta":
        src = tuple(str(each) for each in row["src"])
        return cls(src, str(row["dest"]), int(row["size"]), str(row["reason"]))


@dataclass(frozen=True, slots=True)
class DeltaSpace:
    """`count` deltas are kept, which take `size`; `goes` of them go, which frees `frees`.

    After a collection `removed` and `freed` say what it did, and the others what is left. `deltas`
    are those that go, or have gone. `error`: why nothing is known of them, or nothing was removed.
    """

    count: int = 0
    size: int = 0
    goes: int = 0
    frees: int = 0
    removed: int = 0
    freed: int = 0
    deltas: tuple[LeavingDelta, ...] = ()
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: object) -> "DeltaSpace":
        """One without `deltas` is taken too: the short form.

        Raises:
            DeltaContractError: it is none.
        """
        try:
            row: Mapping[str, Any] = dict(document)  # type: ignore[call-overload]
            return cls(
                count=int(row["count"]),
                size=int(row["size"]),
                goes=int(row["goes"]),
                frees=int(row["frees"]),
                removed=int(row["removed"]),
                freed=int(row["freed"]),
                deltas=tuple(LeavingDelta.from_json(each) for each in row.get("deltas", ())),
                error=None if row.get("error") is None else str(row["error"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise DeltaContractError(
                f"{document!r:.80} does not say what deltas take: {reason}"
            ) from error


def look_question(going: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The body of a look: the images (repository and digest) that go."""
    return {"going": [f"{name}@{digest}" for name, digest in going]}


def asked_look(document: object) -> frozenset[tuple[str, str]]:
    """The images in the body that `look_question` makes. Raises DeltaContractError."""
    going = document.get("going") if isinstance(document, dict) else None
    if not isinstance(going, list) or not all(isinstance(each, str) for each in going):
        raise DeltaContractError('going: the images that go are expected, `["NAME@sha256:…", …]`')
    found = set()
    for each in going:
        name, _, digest = each.partition("@")
        if not name or not digest:
            raise DeltaContractError(f"{each[:120]!r} is no image: give NAME@sha256:…")
        found.add((name, digest))
    return frozenset(found)

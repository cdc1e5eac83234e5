"""What a push asks of the branches, and what is done about it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

BUILT_BRANCHES = ("refs/heads/main", "refs/heads/master")
"""Pushes to these are built; when both come at once, the first one is."""


class PushRefusedError(Exception):
    """The whole push is refused. The message is a sentence for the pusher."""


@dataclass(frozen=True, slots=True)
class RefUpdate:
    """One line of pre-receive's input: object names of 40 or 64 hex digits, all zero for none."""

    old: str
    new: str
    ref: str

    @property
    def is_delete(self) -> bool:
        """Whether the ref goes away."""
        return not self.new.strip("0")

    @property
    def is_create(self) -> bool:
        """Whether the ref is new."""
        return not self.old.strip("0")

    @property
    def short(self) -> str:
        """`main` of `refs/heads/main`, `v1` of `refs/tags/v1`; else the whole name."""
        for prefix in ("refs/heads/", "refs/tags/"):
            if self.ref.startswith(prefix):
                return self.ref.removeprefix(prefix)
        return self.ref


@dataclass(frozen=True, slots=True)
class PushPlan:
    """The one update that is built, if any, and the sentences that the pusher should read."""

    build: RefUpdate | None
    notes: tuple[str, ...]


def parse_updates(lines: Iterable[str]) -> list[RefUpdate]:
    """The lines `<old> <new> <ref>` that git feeds to pre-receive.

    Raises:
        ValueError: a line is not of that form.
    """
    updates = []
    for line in lines:
        words = line.rstrip("\n").split(" ", 2)
        if len(words) != 3:
            raise ValueError(f"not a line of pre-receive: {line[:80]!r}")
        updates.append(RefUpdate(*words))
    return updates


def plan_push(updates: Iterable[RefUpdate], branches: Iterable[str]) -> PushPlan:
    """What to do about a push, given the refs of `BUILT_BRANCHES` that exist before it.

    Raises:
        PushRefusedError: it deletes the branch that devices run.
    """
    by_ref = {update.ref: update for update in updates}
    left = set(branches) | {ref for ref, update in by_ref.items() if not update.is_delete}
    left -= {ref for ref, update in by_ref.items() if update.is_delete}
    built = [by_ref[ref] for ref in BUILT_BRANCHES if ref in by_ref]
    for update in built:
        # A fleet that moves from master to main may drop master, once main is there.
        if update.is_delete and not left.intersection(BUILT_BRANCHES):
            raise PushRefusedError(
                f"{update.short} cannot be deleted: it is the branch that the fleet's releases "
                "are built from. To take a release back, push an older commit with --force."
            )
    wanted = [update for update in built if not update.is_delete]
    return PushPlan(wanted[0] if wanted else None, tuple(_notes(by_ref.values(), wanted)))


def _notes(updates: Iterable[RefUpdate], wanted: list[RefUpdate]) -> Iterable[str]:
    if len(wanted) == 2 and wanted[0].new != wanted[1].new:
        yield "main and master came together: main is built, master is stored only."
    stored = [u.short for u in updates if u not in wanted and not u.is_delete]
    if stored:
        names = ", ".join(stored[:5]) + (f" and {len(stored) - 5} more" if len(stored) > 5 else "")
        yield f"stored, not built: {names} (main and master are built)."

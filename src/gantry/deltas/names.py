"""What a delta is between: the target's configuration, and layers by their diffIDs.

A file holds these names only where it stands alone. A device knows them: the delta server and it
come to the same ones by the same rule (`names_of_pair`), and the check in the file's header says
whether they did.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gantry.deltas.format import DeltaError


@dataclass(frozen=True, slots=True)
class Names:
    """`config` is the digest of the target's configuration; `sources` and `layers` are diffIDs of
    the layers that there are, and of those that the delta rebuilds, the lowest first."""

    config: str
    sources: tuple[str, ...]
    layers: tuple[str, ...]


def names_of_pair(sources: Iterable[Sequence[str]], config: str, diff_ids: Sequence[str]) -> Names:
    """The names of the delta from some images to one of this configuration and these layers.

    Each source is an image's diffIDs, the lowest first. The images' order means nothing: they are
    taken as their rows of diffIDs sort, and the layers as they lie in them, each once. The target's
    layers are those above the longest beginning that it shares with a source: an engine keeps a
    layer only where all below it are the same.
    """
    images = sorted(tuple(each) for each in sources)
    shared = max((_shared(each, diff_ids) for each in images), default=0)
    known = dict.fromkeys(diff_id for each in images for diff_id in each)
    return Names(config, tuple(known), tuple(dict.fromkeys(diff_ids[shared:])))


def _shared(source: Sequence[str], target: Sequence[str]) -> int:
    count = 0
    for one, other in zip(source, target, strict=False):
        if one != other:
            break
        count += 1
    return count


def raw_digest(digest: str) -> bytes:
    """The 32 bytes of `sha256:…`. Raises DeltaError."""
    kind, _, value = digest.partition(":")
    try:
        raw = bytes.fromhex(value)
    except ValueError:
        raw = b""
    if kind != "sha256" or len(raw) != 32:
        raise DeltaError(f"{digest!r} is no digest of the form sha256:…")
    return raw

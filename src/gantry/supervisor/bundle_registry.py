"""What a bundle has, as the registry on loopback serves it."""

from collections.abc import Callable, Iterator

from gantry.contracts.bundle import BundleError, Part, PartKind
from gantry.supervisor.bundle import Bundle
from gantry.supervisor.loopback import Served
from gantry.supervisor.pieces import threaded


def served(bundle: Bundle) -> Callable[[str], Served | None]:
    """Manifests, configurations and layers of the bundle's images, by digest."""

    def find(digest: str) -> Served | None:
        part = next((each for each in bundle.index.parts if each.digest == digest), None)
        if part is None or part.kind is PartKind.TARGET:
            return None
        return Served(
            part.digest,
            part.size,
            part.media_type,
            lambda: threaded(_pieces(bundle, part)),
            part.kind is PartKind.MANIFEST,
        )

    return find


def _pieces(bundle: Bundle, part: Part) -> Iterator[bytes]:
    try:
        yield from bundle.pieces(part)
    except BundleError as error:
        # The answer ends before its length: the engine tells that it could not download.
        raise OSError(str(error)) from error

"""Whether a bundle is for this device. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gantry.contracts.bundle import BundledImage, BundleError, Index
from gantry.supervisor.bundle import ImageFacts
from gantry.supervisor.room import RESERVE

# What the kernels of Raspberry Pis and their stand-ins run: `uname -m`, and the names of
# architectures in images (https://github.com/opencontainers/image-spec, "platform").
_RUNS = {
    "x86_64": {"amd64", "386"},
    "aarch64": {"arm64", "arm"},
    "armv7l": {"arm"},
    "armv6l": {"arm"},
}
# Where nobody has counted, a compressed layer is taken to be a third of what it holds.
_TIMES_PACKED = 3


@dataclass(frozen=True, slots=True)
class Fit:
    """What a device is, as far as bundles are concerned.

    `apps` are ids of its applications by uuid, `releases` what each should run now as (id, commit);
    a release of unknown id has 0. `given_up` says of commits that did not do well here why.
    """

    uuid: str
    fleet_id: int | None
    registries: frozenset[str]
    apps: Mapping[str, int]
    releases: Mapping[int, tuple[int, str]]
    given_up: Mapping[str, str] = field(default_factory=dict)


def is_here_already(index: Index, fit: Fit) -> bool:
    """Whether the device is to run this very release already."""
    _, commit = fit.releases.get(index.fleet_id, (0, ""))
    return commit == index.commit and index.fleet_id in fit.apps.values()


def check_fit(index: Index, fit: Fit, forced: bool) -> None:
    """See that the bundle is for this device, newer than what the device should run, and no
    release that it has given up: the same again would end as it did.

    Raises:
        BundleError: it is not.
    """
    _check_fleet(index, fit)
    if index.device is not None and index.device != fit.uuid:
        raise BundleError(
            f"the bundle is for device {index.device[:12]} alone, and this is {fit.uuid[:12]}: "
            "make one without --device"
        )
    release, commit = fit.releases.get(index.fleet_id, (0, ""))
    if index.release_id <= release and commit != index.commit and not forced:
        raise BundleError(
            f"release {index.commit[:12]} (number {index.release_id}) is not newer than "
            f"{commit[:12]} (number {release}), which this device has: force it to go back"
        )
    if index.commit in fit.given_up:
        raise BundleError(
            f"this device gave release {index.commit[:12]} up: {fit.given_up[index.commit]}; bring "
            "another release"
        )


def _check_fleet(index: Index, fit: Fit) -> None:
    for uuid, number in fit.apps.items():
        # A preloaded application of the oldest form has its number in place of its uuid.
        if number == index.fleet_id and uuid in (index.fleet_uuid, str(number)):
            break
    else:
        if fit.apps or fit.fleet_id is None:
            known = ", ".join(str(each) for each in fit.apps.values()) or "none yet"
            raise _other_fleet(index, f"it is of fleet {known}")
        if fit.fleet_id != index.fleet_id:
            raise _other_fleet(index, f"it is of fleet {fit.fleet_id}")
    foreign = {each.reference.partition("/")[0] for each in index.images} - fit.registries
    if foreign:
        raise _other_fleet(index, f"its registry is {min(fit.registries, default='unknown')}")


def _other_fleet(index: Index, what: str) -> BundleError:
    where = {each.reference.partition("/")[0] for each in index.images}
    return BundleError(
        f"the bundle is for the fleet {index.fleet_slug} (number {index.fleet_id}, at "
        f"{min(where, default='no registry')}), not for this device's: {what}"
    )


def check_architecture(images: Iterable[ImageFacts], machine: str) -> None:
    """See that this machine (`uname -m`) runs these images.

    Raises:
        BundleError: it does not.
    """
    for each in images:
        known = _RUNS.get(machine, {machine})
        too_new = machine == "armv6l" and each.variant not in ("", "v5", "v6")
        if each.architecture not in known or too_new:
            name = f"{each.architecture or 'an unknown architecture'}{each.variant and '/'}"
            raise BundleError(
                f"{each.image.reference} is for {name}{each.variant}, which this machine "
                f"({machine}) does not run: make the bundle of a release for its device type"
            )


def needed_room(index: Index, facts: Iterable[ImageFacts], here: Sequence[Sequence[str]]) -> int:
    """Bytes that the engine needs for these images; `here` are layers of images that it has, as
    lists of their unpacked digests from the bottom up. Layers are shared from the bottom up only.
    """
    sizes = {each.digest: each.unpacked or _TIMES_PACKED * each.size for each in index.parts}
    packed = {each.digest: each.size for each in index.parts}
    counted: set[tuple[str, ...]] = set()
    room, downloads = 0, [0]
    for each in facts:
        known = max((_common(each.diff_ids, layers) for layers in here), default=0)
        for place in range(known, len(each.image.layers)):
            chain = each.diff_ids[: place + 1] or each.image.layers[: place + 1]
            if chain not in counted:
                counted.add(chain)
                room += sizes[each.image.layers[place]]
                downloads.append(packed[each.image.layers[place]])
    # The engine keeps three packed layers at a time beside those that are unpacked.
    return room + sum(sorted(downloads)[-3:]) if room else 0


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for mine, its in zip(one, other, strict=False):
        if mine != its:
            break
        count += 1
    return count


def check_room(needed: int, free: int) -> None:
    """See that there is room.

    Raises:
        BundleError: there is not.
    """
    if needed and free < needed + RESERVE:
        raise BundleError(
            f"too little room: the release needs {_mib(needed + RESERVE)} MiB on the data "
            f"partition, and {_mib(free)} MiB are free; remove what is not needed and try again"
        )


def _mib(size: int) -> int:
    return size // 1024**2


def missing_images(index: Index, here: frozenset[str]) -> tuple[BundledImage, ...]:
    """Images that the engine does not have under their names."""
    return tuple(each for each in index.images if each.reference not in here)

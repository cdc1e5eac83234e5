"""What a service requires of its device: in its contract, or by label
`io.balena.features.requires.*`. Pure.

Contracts are the family's (https://docs.balena.io/learn/develop/container-contracts/), and so are
the labels; version ranges are those of npm: https://github.com/npm/node-semver#ranges.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gantry.contracts.requirements import KINDS
from gantry.supervisor import VERSION, wire
from gantry.supervisor.environment import DeviceFacts

_PREFIX = "io.balena.features.requires."
_OPTIONAL = "io.balena.features.optional"
_VERSION = re.compile(r"v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(?:[-+].*)?")
_SPACED = re.compile(r"(>=|<=|>|<|=|~|\^)\s+")

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Offer:
    """What a device has of a kind: which, and its version; '' where it has none."""

    slug: str = ""
    version: str = ""


def offered(device: DeviceFacts) -> Mapping[str, Offer]:
    """What this device has, by kind. L4T is NVIDIA's, and no device here has it."""
    kernel = re.match(r"\d+\.\d+\.\d+", device.kernel)
    return {
        "sw.supervisor": Offer(version=VERSION),
        "hw.device-type": Offer(slug=device.device_type),
        "arch.sw": Offer(slug=device.architecture),
        # os-release(5): the first word of PRETTY_NAME is ID, on all systems that devices have.
        "sw.os": Offer(device.os_version.partition(" ")[0].lower(), device.os_number),
        "sw.kernel": Offer("linux", kernel[0] if kernel else ""),
    }


def unmet(
    labels: Mapping[str, str], contract: object, device: Mapping[str, Offer]
) -> tuple[str, ...]:
    """Requirements that this device does not meet, each in words.

    Raises:
        wire.WireError: the contract is none.
    """
    found = []
    for name, wanted in sorted(labels.items()):
        kind = name.removeprefix(_PREFIX)
        if kind == name:
            continue
        offer = device.get(kind, Offer())
        is_met = satisfies(offer.version, wanted) if offer.version else wanted == offer.slug != ""
        if not is_met:
            found.append(f"{name} is {wanted!r:.80}, which this device does not meet")
    requires = wire.mapping(contract, "contract").get("requires")
    for requirement in _list(requires, "contract: requires"):
        choices = [requirement]
        if "or" in requirement:
            choices = _list(requirement["or"], "contract: or")
        met = [_is_met(each, device) for each in choices]  # all are read, whichever is met
        if True not in met:
            words = " or ".join(_words(each) for each in choices)
            found.append(f"its contract requires {words}, which this device does not meet")
    return tuple(found)


def _is_met(requirement: Mapping[str, Any], device: Mapping[str, Offer]) -> bool:
    kind = wire.text(requirement.get("type"), "contract: type")
    if kind not in KINDS:
        raise wire.WireError(f"contract: type is {kind!r:.80}: give one of {', '.join(KINDS)}")
    offer = device.get(kind)
    slug, version = (wire.scalar(requirement.get(key)) for key in ("slug", "version"))
    return (
        offer is not None
        and slug in ("", offer.slug)
        and (not version or satisfies(offer.version, version))
        and not requirement.get("data")  # of which no device says anything
    )


def _words(requirement: Mapping[str, Any]) -> str:
    """Such as `sw.os debian >=13`."""
    parts = (wire.scalar(requirement.get(key)) for key in ("type", "slug", "version"))
    data = ["with data"] if requirement.get("data") else []
    return f"{' '.join([*filter(None, parts), *data]):.120}"


def _list(value: object, where: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise wire.WireError(f"{where} is {value!r:.80}: a list is expected")
    return [wire.mapping(each, where) for each in value]


def is_optional(labels: Mapping[str, str]) -> bool:
    """Whether the release may be run without this service."""
    return wire.flag(labels.get(_OPTIONAL))


def satisfies(version: str, wanted: str) -> bool:
    """Whether a version is in a range such as `>=1.2 <2 || ^3.1.0`; one that cannot be read holds
    no version."""
    found = _parts(version)
    return found is not None and any(
        _in_all(_numbers(found), each) for each in wanted.strip().split("||")
    )


def _in_all(version: Version, comparators: str) -> bool:
    low, dash, high = comparators.partition(" - ")
    if dash:
        return _in(version, f">={low.strip()}") and _in(version, f"<={high.strip()}")
    words = _SPACED.sub(r"\1", comparators).split() or ["*"]
    return all(_in(version, each) for each in words)


def _in(version: Version, comparator: str) -> bool:
    operator = re.match(r"(>=|<=|>|<|=|~|\^)?", comparator)
    sign = operator[0] if operator else ""
    parts = _parts(comparator[len(sign) :])
    if parts is None:
        return False
    low = _numbers(parts)
    above = _above(parts, sign)
    match sign:
        case ">=":
            return version >= low
        case ">":
            return version >= above if above is not None else False
        case "<":
            return version < low
        case "<=":
            return above is None or version < above
        case _:
            return version >= low and (above is None or version < above)


def _above(parts: tuple[int, ...], sign: str) -> Version | None:
    """The first version above those that `1`, `1.2`, `~1.2.3` or `^1.2.3` mean; None above all."""
    if not parts:
        return None
    if sign == "^":
        # The first number that is not 0 may not change.
        fixed = next((i for i, each in enumerate(parts) if each), len(parts) - 1)
    elif sign == "~":
        fixed = min(1, len(parts) - 1)
    else:
        fixed = len(parts) - 1
    return _numbers((*parts[:fixed], parts[fixed] + 1))


def _parts(text: str) -> tuple[int, ...] | None:
    """The numbers of a version up to the first `x`; None when it is none."""
    match = _VERSION.fullmatch(text.strip())
    if match is None:
        return None
    found: list[int] = []
    for each in match.groups():
        if each is None or not each.isdecimal():
            break
        found.append(int(each))
    return tuple(found)


def _numbers(parts: tuple[int, ...]) -> Version:
    major, minor, patch = (*parts, 0, 0, 0)[:3]
    return major, minor, patch

"""What a service requires of its device, by label `io.balena.features.requires.*`. Pure.

The labels are the family's (https://docs.balena.io/learn/develop/multicontainer/, container
requirements); version ranges are those of npm: https://github.com/npm/node-semver#ranges.
"""

import re
from collections.abc import Mapping

from gantry.supervisor import VERSION, wire

_PREFIX = "io.balena.features.requires."
_OPTIONAL = "io.balena.features.optional"
_VERSION = re.compile(r"v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(?:[-+].*)?")
_SPACED = re.compile(r"(>=|<=|>|<|=|~|\^)\s+")

Version = tuple[int, int, int]


def unmet(labels: Mapping[str, str], device_type: str, architecture: str) -> tuple[str, ...]:
    """Requirements that this device does not meet, each in words."""
    found = []
    for name, wanted in sorted(labels.items()):
        what = name.removeprefix(_PREFIX)
        if what == name:
            continue
        if what == "sw.supervisor":
            is_met = satisfies(VERSION, wanted)
        elif what == "hw.device-type":
            is_met = wanted == device_type
        elif what == "arch.sw":
            is_met = wanted == architecture
        else:
            is_met = False  # L4T, and whatever comes: nothing on this device has it
        if not is_met:
            found.append(f"{name} is {wanted!r:.80}, which this device does not meet")
    return tuple(found)


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

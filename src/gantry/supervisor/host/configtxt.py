"""config.txt of a Raspberry Pi's firmware: what variables of the fleet make of it. Pure.

(https://www.raspberrypi.com/documentation/computers/config_txt.html) What is set by variables is in
one block at the end, for all boards. What was set before for the same name is kept, as a comment
with a mark, and comes back when the variable goes. All else stays as it is: comments, unknown
lines, the order, and what is under a filter such as `[pi4]`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

# Settings that may have many values; a variable gives them all, as the family has it.
ARRAYS = frozenset(("dtparam", "dtoverlay", "device_tree_param", "device_tree_overlay", "gpio"))
_OVERLAYS = ("dtoverlay", "device_tree_overlay")
_PARAMETERS = ("dtparam", "device_tree_param")
# What could keep a device from starting at all, or has other files read: the family's list, and
# what has come since. Theirs are in the first lines.
FORBIDDEN = frozenset(
    (
        *("disable_commandline_tags", "cmdline", "kernel", "kernel_address", "kernel_old"),
        *("ramfsfile", "ramfsaddr", "initramfs", "device_tree_address", "init_emmc_clock"),
        *("avoid_safe_mode", "power_mode", "fan_profile"),
        *("armstub", "auto_initramfs", "boot_load_flags", "boot_partition", "boot_ramdisk"),
        *("device_tree", "device_tree_end", "dt_bootargs", "fixup_file", "include"),
        *("os_prefix", "overlay_prefix", "start_file", "upstream_kernel", "bootloader_update"),
    )
)
# Parameters of the base device tree, wherever they stand (the family's list).
_BASE_PARAMETERS = frozenset(
    (
        *("audio", "spi", "i2c", "i2c_arm", "i2c_vc"),
        *("i2c_baudrate", "i2c_arm_baudrate", "i2c_vc_baudrate"),
    )
)
# The firmware reads no further in a line.
LINE_LIMIT = 98
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(:[01])?")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_SETTING = re.compile(r"\s*([^=#\s\[][^=]*?)\s*=(.*)")
_FILTER = re.compile(r"\s*\[([^\]]*)\]")
_BEGIN = "# gantry: set by variables of the fleet; change them there"
_END = "# gantry: end"
_OFF = "#gantry-off# "


class ConfigTxtError(ValueError):
    """A value that config.txt cannot hold, or that may not be changed; the message says which."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A name and its values: one, or for arrays any number."""

    name: str
    values: tuple[str, ...]


def setting(name: str, value: str) -> Setting:
    """The setting that a variable's value means: `value`, or for arrays also `"a","b"`.

    Raises:
        ConfigTxtError: it may not be changed, or cannot be written.
    """
    if name in FORBIDDEN:
        raise ConfigTxtError(f"{name} may not be changed: the device could not start")
    if not _NAME.fullmatch(name):
        raise ConfigTxtError(f"{name!r:.80} is no name of a setting of config.txt")
    values = _values(name, value.strip()) if name in ARRAYS else (value.strip(),)
    for each in values:
        if not each.isprintable():
            raise ConfigTxtError(f"{name} is {each!r:.80}: give one line")
        for line in _lines(name, each):
            if len(line.encode()) > LINE_LIMIT:
                raise ConfigTxtError(
                    f"{name} makes a line of {len(line.encode())} bytes: the firmware reads "
                    f"{LINE_LIMIT}"
                )
    return Setting(name, values)


def _values(name: str, value: str) -> tuple[str, ...]:
    if not value.startswith('"'):
        return (value,) if value else ()
    try:
        found = json.loads(f"[{value}]")
    except ValueError as error:
        raise ConfigTxtError(f'{name} is {value!r:.80}: give a value, or "a","b"') from error
    if not all(isinstance(each, str) for each in found):
        raise ConfigTxtError(f'{name} is {value!r:.80}: give texts, "a","b"')
    return tuple(each.strip() for each in found if each.strip())


def _lines(name: str, value: str) -> Iterator[str]:
    """An overlay's parameters are in lines of their own: together they may be too long."""
    if name in _OVERLAYS:
        overlay, *parameters = value.split(",")
        yield f"{name}={overlay}"
        yield from (f"dtparam={each}" for each in parameters)
    else:
        yield f"{name}={value}"


def applied(text: str, settings: Iterable[Setting]) -> str:
    """The text with exactly these settings by variables. The same for what is applied already."""
    wanted = {each.name: each for each in settings}
    lines = _base(_LINE.findall(text))
    if not wanted:
        return "".join(lines)
    lines = [
        f"{_OFF}{line}" if name in wanted and not filtered else line
        for line, name, filtered in _walk(lines)
    ]
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    block = (_BEGIN, "[all]", *_block(wanted), _END)
    return "".join((*lines, *(f"{line}\n" for line in block)))


def _block(wanted: Mapping[str, Setting]) -> Iterator[str]:
    overlays = [wanted[name] for name in _OVERLAYS if name in wanted]
    parameters = [wanted[name] for name in _PARAMETERS if name in wanted]
    for name in sorted(set(wanted) - set(_OVERLAYS) - set(_PARAMETERS)):
        for value in wanted[name].values:
            yield f"{name}={value}"
    if any(each.values for each in parameters):
        # Else they would be parameters of the last overlay above.
        yield "dtoverlay="
    for each in (*parameters, *overlays):
        for value in each.values:
            yield from _lines(each.name, value)


def _base(lines: list[str]) -> list[str]:
    """The lines as they would be without variables."""
    bare = [line.rstrip() for line in lines]
    if _BEGIN in bare:
        begin = bare.index(_BEGIN)
        # Where somebody removed its end, nobody knows what is theirs: it stays.
        end = bare.index(_END, begin) if _END in bare[begin:] else begin
        before, after = lines[:begin], lines[end + 1 :]
        if _is_filtered(before) and any(bare[end + 1 :]):
            # What was written below our block was for all boards.
            before.append("[all]\n")
        return _base([*before, *after])
    return [line.removeprefix(_OFF) for line in lines]


def _is_filtered(lines: list[str]) -> bool:
    return bool(lines) and list(_walk(lines))[-1][2]


def _walk(lines: Iterable[str]) -> Iterator[tuple[str, str, bool]]:
    """Each line with the name of the setting that it is part of ('' for none), and whether it is
    under a filter. A parameter after an overlay is part of that overlay; under filters that is not
    looked into."""
    filtered = False
    overlay = ""
    for whole in lines:
        line = whole.rstrip("\r\n")
        found = _FILTER.match(line)
        if found:
            filtered = found[1].strip().lower() != "all"
            yield whole, "", filtered
            continue
        match = _SETTING.match(line)
        name, value = (match[1], match[2].strip()) if match else ("", "")
        if name in _OVERLAYS and not filtered:
            overlay = name if value else ""
        elif name in _PARAMETERS and overlay and not _is_base(value):
            name = overlay
        yield whole, name, filtered


def _is_base(parameter: str) -> bool:
    return all(each.partition("=")[0] in _BASE_PARAMETERS for each in parameter.split(","))


def current(text: str) -> dict[str, tuple[str, ...]]:
    """What holds for all boards, by name: of what may have one value the last, of arrays all."""
    found: dict[str, tuple[str, ...]] = {}
    for line, name, filtered in _walk(_LINE.findall(text)):
        match = _SETTING.match(line.rstrip("\r\n"))
        if not name or filtered or match is None:
            continue
        own, value = match[1], match[2].strip()
        if name in _OVERLAYS and own in _PARAMETERS:
            *before, last = found[name]
            found[name] = (*before, f"{last},{value}")
        elif name in ARRAYS:
            if value:
                found[name] = (*found.get(name, ()), value)
        else:
            found[name] = (value,)
    return found

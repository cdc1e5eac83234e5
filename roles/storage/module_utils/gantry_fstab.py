"""What /etc/fstab is to be on a device: a plan from what is asked for and what the host has.

Pure functions; the role's module `storage_layout` carries the plan out.
"""

import re
from collections.abc import Set
from dataclasses import dataclass, field, replace

BEGIN, END = "# BEGIN gantry", "# END gantry"
LABELS = {"boot": "resin-boot", "state": "resin-state", "data": "resin-data"}
# Only root reads the boot partition: config.json holds the device's keys.
FAT_OPTIONS = ("fmask=0177", "dmask=0077")
# A partition that is broken must not keep the device from booting, and whoever needs it waits.
PATIENCE = "nofail,x-systemd.before=local-fs.target"
DEVICE_OPTIONS = {
    "boot": ("vfat", "noatime," + ",".join(FAT_OPTIONS)),
    "state": ("auto", "noatime,nodev,nosuid"),
    "data": ("auto", "noatime"),
}
# Marks an `ro` that is ours, so that an operator's own is not taken away.
READ_ONLY_MARK = "x-gantry.read-only"
DEVICE = re.compile(r"(LABEL|UUID|PARTLABEL|PARTUUID)=\S+|/dev/\S+")


class LayoutError(ValueError):
    """The layout cannot be had; the message says why and what to do."""


@dataclass(frozen=True)
class Wanted:
    """What the role was asked for; `sources` by `boot`, `state` and `data`."""

    sources: dict[str, str]
    boot_firmware: str = ""
    read_only_root: bool = False


@dataclass(frozen=True)
class Host:
    """What the host has: labels of its partitions, what is mounted where (with which options), and
    which of the three folders hold something."""

    labels: frozenset[str] = frozenset()
    mounts: dict[str, str] = field(default_factory=dict)
    occupied: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Line:
    """A line of fstab, fields apart; `text` alone for comments and empty lines."""

    text: str
    what: str = ""
    where: str = ""
    kind: str = ""
    options: tuple[str, ...] = ()
    rest: str = "0 0"

    def with_options(self, options: tuple[str, ...]) -> "Line":
        """The same line with other options; itself, untouched, if they are the same."""
        if options == self.options:
            return self
        text = f"{self.what} {self.where} {self.kind} {','.join(options) or 'defaults'} {self.rest}"
        return replace(self, text=text, options=options)


@dataclass(frozen=True)
class Plan:
    """The new fstab, what is then at each of the three, and which are to be mounted."""

    fstab: str
    sources: dict[str, str]
    mounts: tuple[str, ...]
    boot_line: str


def parse(fstab: str) -> tuple[list[Line], dict[str, Line]]:
    """The lines that are not ours, and ours by their mount point."""
    others: list[Line] = []
    ours: dict[str, Line] = {}
    inside = False
    for text in fstab.splitlines():
        if text in (BEGIN, END):
            inside = text == BEGIN
            continue
        fields = text.split()
        if not fields or fields[0].startswith("#") or len(fields) < 3:
            line = Line(text)
        else:
            options = tuple((fields[3] if len(fields) > 3 else "defaults").split(","))
            rest = " ".join(fields[4:6]) or "0 0"
            line = Line(text, fields[0], fields[1], fields[2], options, rest)
        if not inside:
            others.append(line)
        elif line.where:
            ours[line.where] = line
    return others, ours


def source_of(name: str, wanted: Wanted, host: Host, named: Set[str], taken: bool) -> str:
    """`existing`, `folder`, a device, or a folder to bind.

    `named` are the mount points of other lines; `taken`: something else is at the place.
    """
    asked = wanted.sources[name]
    if asked == "auto" and taken:
        return "existing"
    if asked == "auto":
        labelled = LABELS[name] in host.labels
        firmware = wanted.boot_firmware if name == "boot" else ""
        # One that is mounted there has the files that the board boots, whatever its label.
        if firmware and (firmware in named or firmware in host.mounts or not labelled):
            return firmware
        return f"LABEL={LABELS[name]}" if labelled else "folder"
    if asked == "folder" or DEVICE.fullmatch(asked):
        return asked
    if name == "boot" and asked.startswith("/"):
        return asked
    raise LayoutError(
        f"storage_{name}_source is {asked!r}: it must be auto, folder or a device such as "
        f"LABEL={LABELS[name]}"
    )


def line_for(name: str, source: str) -> str:
    """Our line of fstab for a source; '' where nothing is to be mounted."""
    where = f"/mnt/{name}"
    if source in ("folder", "existing"):
        return ""
    if not DEVICE.fullmatch(source):
        return f"{source} {where} none bind,{PATIENCE} 0 0"
    kind, options = DEVICE_OPTIONS[name]
    return f"{source} {where} {kind} {options},{PATIENCE} 0 2"


def root_options(options: tuple[str, ...], read_only: bool) -> tuple[str, ...]:
    """The root's options with our `ro`, or without it."""
    marked = READ_ONLY_MARK in options
    if read_only == marked:
        return options
    if read_only:
        kept = tuple(each for each in options if each not in ("rw", "ro"))
        return (*kept, "ro", READ_ONLY_MARK)
    return tuple(each for each in options if each not in ("ro", READ_ONLY_MARK))


def fat_options(options: tuple[str, ...]) -> tuple[str, ...]:
    """A FAT line's options with our masks in the place of its own."""
    if set(FAT_OPTIONS) <= set(options):
        return options
    kept = (each for each in options if not re.match(r"(umask|fmask|dmask)=", each))
    return (*kept, *FAT_OPTIONS)


def check_free(name: str, source: str, host: Host) -> None:
    """Nothing may vanish below a new mount.

    Raises:
        LayoutError: the folder holds something.
    """
    where = f"/mnt/{name}"
    if where in host.occupied and where not in host.mounts:
        raise LayoutError(
            f"{source} is to be mounted at {where}, but that folder holds files already, which "
            f"would be hidden: move them away, or set storage_{name}_source to folder"
        )


def check_read_only(sources: dict[str, str], named: Set[str]) -> None:
    """What a device writes needs a place beside a root that cannot be written.

    Raises:
        LayoutError: there is none, or the root has no line.
    """
    if "/" not in named:
        raise LayoutError("storage_read_only_root: /etc/fstab has no line for /: add one")
    if on_root := [f"/mnt/{name}" for name in ("state", "data") if sources[name] == "folder"]:
        verb = "is a folder" if len(on_root) == 1 else "are folders"
        raise LayoutError(
            f"storage_read_only_root: {' and '.join(on_root)} {verb} of the root, which could not "
            "be written then: have a partition for each (labels resin-state, resin-data)"
        )


def plan(fstab: str, wanted: Wanted, host: Host) -> Plan:
    """What fstab is to be.

    Raises:
        LayoutError: a source is not one, files would be hidden, or the root has no line.
    """
    others, ours = parse(fstab)
    named = {line.where for line in others}
    sources: dict[str, str] = {}
    block: list[str] = []
    for name in LABELS:
        where = f"/mnt/{name}"
        taken = where in named or (where in host.mounts and where not in ours)
        sources[name] = source_of(name, wanted, host, named, taken)
        if where in named and sources[name] != "existing":
            raise LayoutError(
                f"/etc/fstab has a line for {where} already: remove it, or leave "
                f"storage_{name}_source at auto"
            )
        if own := line_for(name, sources[name]):
            check_free(name, sources[name], host)
            block.append(own)
    boot_line = sources["boot"] if sources["boot"].startswith("/") else "/mnt/boot"
    if wanted.read_only_root:
        check_read_only(sources, named)
    lines = []
    for line in others:
        if line.where == boot_line and line.kind in ("vfat", "msdos"):
            line = line.with_options(fat_options(line.options))
        if line.where == "/":
            line = line.with_options(root_options(line.options, wanted.read_only_root))
        lines.append(line.text)
    if block:
        lines += [BEGIN, *block, END]
    mounts = tuple(each.split()[1] for each in block)
    text = "".join(f"{each}\n" for each in lines)
    return Plan(text, sources, mounts, boot_line)

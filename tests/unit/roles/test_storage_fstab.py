"""What /etc/fstab becomes: by what is asked for, and by what the host has."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROLE = Path(__file__).parents[3] / "roles" / "storage"
PI = """\
proc /proc proc defaults 0 0
PARTUUID=4e639091-01  /boot/firmware  vfat  defaults          0  2
PARTUUID=4e639091-02  /  ext4  defaults,noatime  0  1
"""
ALL_LABELS = frozenset({"resin-boot", "resin-rootA", "resin-state", "resin-data"})


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"storage_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


layout = load(ROLE / "module_utils" / "gantry_fstab.py")


def wanted(firmware: str = "", read_only: bool = False, **sources: str) -> Any:
    auto = {"boot": "auto", "state": "auto", "data": "auto"}
    return layout.Wanted(auto | sources, firmware, read_only)


def lines(plan: Any) -> list[list[str]]:
    return [line.split() for line in plan.fstab.splitlines() if line and not line.startswith("#")]


def line(plan: Any, where: str) -> list[str]:
    [found] = [each for each in lines(plan) if each[1] == where]
    return found


def test_a_plain_raspberry_pi_os_has_folders_and_binds_its_boot_partition() -> None:
    plan = layout.plan(PI, wanted("/boot/firmware"), layout.Host())
    assert plan.sources == {"boot": "/boot/firmware", "state": "folder", "data": "folder"}
    assert plan.mounts == ("/mnt/boot",)
    assert line(plan, "/mnt/boot")[:3] == ["/boot/firmware", "/mnt/boot", "none"]
    assert line(plan, "/boot/firmware")[3] == "defaults,fmask=0177,dmask=0077"
    assert plan.fstab.startswith("proc /proc proc defaults 0 0\n")
    assert "PARTUUID=4e639091-02  /  ext4  defaults,noatime  0  1\n" in plan.fstab


def test_labelled_partitions_are_mounted_and_only_root_reads_boot() -> None:
    plan = layout.plan("LABEL=resin-rootA / ext4 ro 0 1\n", wanted(), layout.Host(ALL_LABELS))
    assert plan.mounts == ("/mnt/boot", "/mnt/state", "/mnt/data")
    assert line(plan, "/mnt/boot")[0] == "LABEL=resin-boot"
    assert {"fmask=0177", "dmask=0077"} <= set(line(plan, "/mnt/boot")[3].split(","))
    assert {"nodev", "nosuid"} <= set(line(plan, "/mnt/state")[3].split(","))
    for name in ("boot", "state", "data"):
        options = line(plan, f"/mnt/{name}")[3].split(",")
        assert {"nofail", "x-systemd.before=local-fs.target"} <= set(options)
        assert line(plan, f"/mnt/{name}")[4:] == ["0", "2"]


def test_a_firmware_folder_counts_where_something_is_mounted_on_it() -> None:
    host = layout.Host(ALL_LABELS)
    empty = layout.plan("/dev/sda1 / ext4 ro 0 1\n", wanted("/boot/firmware"), host)
    assert empty.sources["boot"] == "LABEL=resin-boot"
    own = "LABEL=resin-boot /boot/firmware vfat defaults 0 2\n"
    lined = layout.plan(own, wanted("/boot/firmware"), host)
    assert lined.sources["boot"] == "/boot/firmware"
    host = layout.Host(ALL_LABELS, {"/boot/firmware": "rw"})
    assert layout.plan("", wanted("/boot/firmware"), host).sources["boot"] == "/boot/firmware"


def test_a_disk_for_data_alone() -> None:
    host = layout.Host(frozenset({"resin-data"}))
    plan = layout.plan(PI, wanted("/boot/firmware"), host)
    assert plan.sources["data"] == "LABEL=resin-data"
    assert plan.sources["state"] == "folder"


def test_a_volume_that_is_mounted_already_is_left_alone() -> None:
    host = layout.Host(mounts={"/mnt/boot": "rw"}, occupied=frozenset({"/mnt/boot"}))
    plan = layout.plan("", wanted("/boot/firmware"), host)
    assert plan.sources["boot"] == "existing"
    assert plan.fstab == ""


def test_lines_of_an_operator_stay() -> None:
    own = PI + "/dev/sda1 /mnt/data xfs defaults 0 2\n"
    plan = layout.plan(own, wanted("/boot/firmware"), layout.Host(frozenset({"resin-data"})))
    assert plan.sources["data"] == "existing"
    assert line(plan, "/mnt/data")[0] == "/dev/sda1"


@pytest.mark.parametrize("read_only", [False, True])
def test_planning_again_changes_nothing(read_only: bool) -> None:
    first = layout.plan(PI, wanted("/boot/firmware", read_only), layout.Host(ALL_LABELS))
    mounts = dict.fromkeys(first.mounts, "rw")
    # What is there is on the mounts now, and covers nothing.
    host = layout.Host(ALL_LABELS, mounts, frozenset(mounts))
    again = layout.plan(first.fstab, wanted("/boot/firmware", read_only), host)
    assert again == first


def test_a_read_only_root_and_back() -> None:
    plan = layout.plan(PI, wanted("/boot/firmware", read_only=True), layout.Host(ALL_LABELS))
    assert line(plan, "/")[3] == "defaults,noatime,ro,x-gantry.read-only"
    back = layout.plan(plan.fstab, wanted("/boot/firmware"), layout.Host())
    assert line(back, "/")[3] == "defaults,noatime"


def test_an_operators_own_read_only_root_stays() -> None:
    plan = layout.plan("/dev/sda1 / ext4 ro 0 1\n", wanted(), layout.Host())
    assert plan.fstab == "/dev/sda1 / ext4 ro 0 1\n"


def test_a_read_only_root_takes_the_place_of_rw() -> None:
    own = "/dev/sda1 / ext4 rw,noatime 0 1\n"
    plan = layout.plan(own, wanted(read_only=True), layout.Host(ALL_LABELS))
    assert line(plan, "/")[3] == "noatime,ro,x-gantry.read-only"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"resin-data"}, "/mnt/state is a folder"),
        ({"resin-state"}, "/mnt/data is a folder"),
        (set(), "/mnt/state and /mnt/data are folders"),
    ],
)
def test_a_read_only_root_needs_partitions_beside_it(labels: set[str], message: str) -> None:
    with pytest.raises(layout.LayoutError, match=message):
        layout.plan(PI, wanted(read_only=True), layout.Host(frozenset(labels)))


def test_what_is_mounted_there_already_is_beside_a_read_only_root() -> None:
    host = layout.Host(mounts={"/mnt/state": "rw", "/mnt/data": "rw"})
    plan = layout.plan(PI, wanted("/boot/firmware", read_only=True), host)
    assert (plan.sources["state"], plan.sources["data"]) == ("existing", "existing")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("umask=0022,flush", "flush,fmask=0177,dmask=0077"),
        ("defaults,fmask=0022,dmask=0022", "defaults,fmask=0177,dmask=0077"),
        ("dmask=0077,fmask=0177", "dmask=0077,fmask=0177"),
    ],
)
def test_masks_take_the_place_of_others(options: str, expected: str) -> None:
    own = f"/dev/sda1 /boot/firmware vfat {options} 0 2\n"
    plan = layout.plan(own, wanted("/boot/firmware"), layout.Host())
    assert line(plan, "/boot/firmware")[3] == expected


def test_a_boot_folder_that_is_no_fat_gets_no_masks() -> None:
    own = "/dev/sda1 /boot/firmware ext4 defaults 0 2\n"
    plan = layout.plan(own, wanted("/boot/firmware"), layout.Host())
    assert line(plan, "/boot/firmware")[3] == "defaults"


def test_nothing_of_the_operators_vanishes_below_a_mount() -> None:
    host = layout.Host(frozenset({"resin-data"}), occupied=frozenset({"/mnt/data"}))
    with pytest.raises(layout.LayoutError, match="/mnt/data, but that folder holds files already"):
        layout.plan(PI, wanted(), host)
    plan = layout.plan(PI, wanted(data="folder"), host)
    assert plan.sources["data"] == "folder"


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"data": "sda1"}, "storage_data_source is 'sda1': it must be auto, folder or a device"),
        ({"state": "/srv/state"}, "storage_state_source is '/srv/state': it must be"),
        ({"data": "LABEL=a b"}, "storage_data_source is 'LABEL=a b'"),
    ],
)
def test_what_is_no_source_is_refused(sources: dict[str, str], message: str) -> None:
    with pytest.raises(layout.LayoutError, match=message):
        layout.plan(PI, wanted(**sources), layout.Host())


def test_two_lines_for_one_place_are_refused() -> None:
    own = PI + "/dev/sda1 /mnt/data xfs defaults 0 2\n"
    with pytest.raises(layout.LayoutError, match="has a line for /mnt/data already: remove it"):
        layout.plan(own, wanted(data="LABEL=disk"), layout.Host())


def test_a_root_without_a_line_cannot_be_read_only() -> None:
    with pytest.raises(layout.LayoutError, match="no line for /: add one"):
        layout.plan("# UNCONFIGURED FSTAB\n", wanted(read_only=True), layout.Host())

"""Module kernel_cmdline: words come, go and change places; all others stay."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

MODULE = Path(__file__).parents[3] / "roles" / "splash" / "library" / "kernel_cmdline.py"
FRESH = "console=serial0,115200 console=tty1 root=PARTUUID=4e639091-02 rootfstype=ext4 rootwait"
SILENT = {
    "present": ["quiet", "splash", "logo.nologo"],
    "absent": [],
    "replaced": {"console=tty1": "console=tty3"},
}
OPEN = {
    "present": ["quiet", "splash"],
    "absent": ["logo.nologo"],
    "replaced": {"console=tty3": "console=tty1"},
}


@pytest.fixture
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kernel_cmdline", MODULE)
    assert spec
    assert spec.loader
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_new_words_come_last_and_others_keep_their_places(module: ModuleType) -> None:
    assert module.edited(FRESH, **SILENT) == (
        "console=serial0,115200 console=tty3 root=PARTUUID=4e639091-02 rootfstype=ext4 rootwait "
        "quiet splash logo.nologo"
    )


def test_a_line_that_is_in_order_stays_as_it_is(module: ModuleType) -> None:
    line = "  " + module.edited(FRESH, **SILENT).replace(" ", "  ")
    assert module.edited(line, **SILENT) == line


def test_ours_are_there_once(module: ModuleType) -> None:
    line = "console=tty3 quiet console=tty1 cgroup_enable=memory quiet cgroup_enable=memory"
    # A word of somebody else's may be there twice, and for a reason.
    assert module.edited(line, **SILENT) == (
        "console=tty3 quiet cgroup_enable=memory cgroup_enable=memory splash logo.nologo"
    )


def test_there_and_back(module: ModuleType) -> None:
    silent = module.edited(FRESH, **SILENT)
    assert module.edited(silent, **OPEN) == f"{FRESH} quiet splash"


def test_half_a_file_is_never_there(module: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "cmdline.txt"
    path.write_text(FRESH)
    path.chmod(0o755)
    module.write_whole(path, "other\n")
    assert (path.read_text(), path.stat().st_mode & 0o7777) == ("other\n", 0o755)
    assert [each.name for each in tmp_path.iterdir()] == ["cmdline.txt"]

"""The files of role hardening, and what it refuses."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROLE = Path(__file__).parents[3] / "roles" / "hardening"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"hardening_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


filters = load(ROLE / "filter_plugins" / "hardening.py")
lock_account = load(ROLE / "library" / "lock_account.py")


def test_a_list_gives_a_setting_several_lines() -> None:
    files = filters.dropins({"chrony.service": {"ReadWritePaths": ["", "/run"], "UMask": "0077"}})
    assert files == {
        "/etc/systemd/system/chrony.service.d/10-gantry-hardening.conf": (
            "[Service]\nReadWritePaths=\nReadWritePaths=/run\nUMask=0077\n"
        )
    }


def test_modes_and_what_a_boot_removes() -> None:
    paths = [{"path": "/root", "mode": "0700"}, {"path": "/a", "mode": "0640", "group": "shadow"}]
    assert filters.tmpfiles_text(paths, ["/etc/sudoers.d/010_pi-nopasswd"]) == (
        "z /a 0640 root shadow\nz /root 0700 root root\nr! /etc/sudoers.d/010_pi-nopasswd\n"
    )


@pytest.mark.parametrize(
    ("settings", "masked", "problem"),
    [
        ({"net.ipv4.ip_forward": 0}, [], "net.ipv4.ip_forward must not be 0: "),
        ({"net.ipv4.conf.all.forwarding": "0"}, [], "net.ipv4.conf.all.forwarding must not be 0: "),
        ({"net.ipv6.conf.default.forwarding": 0}, [], "net.ipv6.conf.default.forwarding must"),
        ({"kernel.modules_disabled": 1}, [], "kernel.modules_disabled must not be 1: "),
        ({"dev.tty.ldisc_autoload": 0}, [], "dev.tty.ldisc_autoload must not be 0: "),
        ({"kernel.core_pattern": "a\nb.c = d"}, [], "'kernel.core_pattern' is no kernel setting"),
        ({"kernel/sysrq": 0}, [], "'kernel/sysrq' is no kernel setting"),
        ({}, ["docker.service"], "docker.service must not be masked: "),
        ({}, ["gantry-vpn.service"], "gantry-vpn.service must not be masked: "),
        ({}, ["hciuart.service"], "hciuart.service must not be masked: "),
    ],
)
def test_what_would_break_a_device_is_refused(
    settings: dict[str, object], masked: list[str], problem: str
) -> None:
    [found] = filters.problems(settings, masked)
    assert found.startswith(problem)


def test_all_problems_are_said_at_once() -> None:
    assert len(filters.problems({"net.ipv4.ip_forward": 0, "x": 1}, ["ssh.service"])) == 3


def test_harmless_values_are_not_refused() -> None:
    settings = {"net.ipv4.ip_forward": 1, "net.ipv4.conf.eth0.rp_filter": 0, "kernel.sysrq": 0}
    assert filters.problems(settings, ["apt-daily.timer", "sshswitch.service"]) == []


@pytest.mark.parametrize(
    ("field", "opens"),
    [("$y$j9T$x", True), ("", True), ("!", False), ("!$y$j9T$x", False), ("*", False)],
)
def test_passwords_that_let_somebody_in(field: str, opens: bool) -> None:
    shadow = f"root:*:1::::::\npi:{field}:19000:0:99999:7:::\npip:$y$j:1::::::\n"
    assert lock_account.has_password(shadow, "pi") is opens


def test_nobody_is_no_account() -> None:
    assert lock_account.account("no-such-account") == ""
    assert lock_account.account("root") == "root"

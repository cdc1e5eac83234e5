"""The logo and the silence around it. What plymouth draws is seen on a whole machine only."""

import base64
import importlib.util
import re
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from testinfra.host import Host

On = Callable[[str], Host]
LOGO = "/mnt/boot/splash/resin-logo.png"
SHOWN = "/mnt/state/gantry/splash/logo.png"
THEME = "/usr/share/plymouth/themes/gantry"
SILENT = ["vt.global_cursor_default=0", "logo.nologo"]


def drawing() -> ModuleType:
    """The program that draws our logo makes PNGs for the tests too."""
    path = Path(__file__).parents[3] / "roles/splash/files/draw_logo.py"
    spec = importlib.util.spec_from_file_location("draw_logo", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pi(on: On) -> Host:
    return on("splash-production")


def words(host: Host) -> list[str]:
    return str(host.file("/boot/firmware/cmdline.txt").content_string).split()


def put(host: Host, data: bytes) -> None:
    """Replace the logo of the boot partition, as an operator does."""
    text = base64.b64encode(data).decode()
    host.check_output("echo %s | base64 -d > %s.new && mv %s.new %s", text, LOGO, LOGO, LOGO)


def eventually(seen: Callable[[], object], wanted: object, seconds: int = 60) -> None:
    """The folder is watched; what is put there is applied in a moment."""
    end = time.monotonic() + seconds
    while (found := seen()) != wanted and time.monotonic() < end:
        time.sleep(0.3)
    assert found == wanted


def said(host: Host) -> list[str]:
    """What gantry-config has said of the logo, as a service."""
    journal = host.check_output("journalctl --unit gantry-config --output cat").splitlines()
    return [line for line in journal if line.startswith("splash:")]


def test_production_has_nothing_on_the_screen_but_the_logo(pi: Host) -> None:
    before = pi.file("/root/cmdline.before").content_string.split()
    now = words(pi)
    assert "console=tty1" in before
    assert "console=tty3" in now
    assert "console=tty1" not in now
    ours = ["quiet", "splash", "plymouth.ignore-serial-consoles", *SILENT]
    others = [word for word in before if word not in ours]
    assert [word for word in now if word not in ours] == [
        word.replace("console=tty1", "console=tty3") for word in others
    ]
    assert all(now.count(word) == 1 for word in ours)
    firmware = pi.file("/boot/firmware/config.txt").content_string
    assert firmware.startswith(pi.file("/root/config.before").content_string)
    assert re.search(r"^\[all\]\ndisable_splash=1$", firmware, re.MULTILINE)


def test_the_logo_stays_in_production_and_goes_in_development(on: On) -> None:
    shown = "systemctl show -P ExecStart plymouth-quit.service"
    before = "systemctl show -P Before plymouth-quit.service"
    for name, retained in (("production", True), ("development", False), ("changed", False)):
        host = on(f"splash-{name}")
        (command,) = re.findall(r"argv\[\]=(.*?) ;", host.check_output(shown))
        assert command == "/usr/bin/plymouth quit" + (" --retain-splash" if retained else "")
        assert "docker.service" in host.check_output(before)
        unit = host.run("systemctl is-enabled gantry-splash.service").stdout.strip()
        assert unit == ("enabled" if retained else "disabled")


@pytest.mark.parametrize("name", ["development", "changed"])
def test_development_has_its_console(on: On, name: str) -> None:
    now = words(on(f"splash-{name}"))
    assert "console=tty1" in now
    assert not {"console=tty3", *SILENT} & set(now)
    config = on(f"splash-{name}").file("/boot/firmware/config.txt").content_string
    assert config == on(f"splash-{name}").file("/root/config.before").content_string


def test_plymouth_takes_the_theme(pi: Host) -> None:
    assert pi.check_output("plymouth-set-default-theme") == "gantry"
    plugin = pi.check_output("sed -n s/^ModuleName=//p %s/gantry.plymouth", THEME)
    assert pi.file(
        f"{pi.check_output('plymouth --get-splash-plugin-path').strip()}/{plugin}.so"
    ).exists
    assert pi.check_output("readlink %s/state.png", THEME) == SHOWN


def test_our_own_logo_is_there_for_replacement(pi: Host) -> None:
    assert pi.file(LOGO).content == pi.file(f"{THEME}/logo.png").content
    assert not pi.file(SHOWN).exists


def test_a_logo_on_the_boot_partition_is_shown(pi: Host) -> None:
    tools = drawing()
    mine = tools.png(bytes([200, 30, 30, 255]) * tools.WIDTH * tools.HEIGHT)
    before = said(pi)
    put(pi, mine)
    try:
        eventually(lambda: said(pi)[len(before) :], ["splash: the logo of the boot partition"])
        assert pi.file(f"{THEME}/state.png").content == mine
        assert pi.check_output("gantry-config apply splash") == ""
    finally:
        put(pi, pi.file(f"{THEME}/logo.png").content)
    eventually(lambda: said(pi)[len(before) + 1 :], ["splash: our own logo"])
    assert not pi.file(SHOWN).exists


def test_a_folder_that_was_removed_is_made_anew_and_watched(pi: Host) -> None:
    pi.check_output("rm -r /mnt/boot/splash")
    eventually(lambda: pi.file(LOGO).exists, True)
    tools = drawing()
    put(pi, tools.png(tools.pixels()[::-1]))
    eventually(lambda: pi.file(SHOWN).exists, True)
    put(pi, pi.file(f"{THEME}/logo.png").content)
    eventually(lambda: pi.file(SHOWN).exists, False)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda _png: b"GIF89a", "it is no PNG file"),
        (lambda png: png[:-200], "it ends in the middle"),
        (lambda png: png[:500] + b"\0\0" + png[502:], "it is damaged"),
        (lambda _png: b"\0" * (4 * 1024 * 1024 + 1), "at most 4194304"),
    ],
)
def test_what_cannot_be_shown_is_named_and_ours_is_shown(
    pi: Host, damage: Callable[[bytes], bytes], complaint: str
) -> None:
    tools = drawing()
    good = tools.png(tools.pixels()[::-1])
    put(pi, good)
    eventually(lambda: pi.file(SHOWN).exists, True)
    bad = damage(good)
    if len(bad) > 100_000:
        pi.check_output("truncate --size %s %s", str(len(bad)), LOGO)
    else:
        put(pi, bad)
    eventually(lambda: pi.file(SHOWN).exists, False)
    done = pi.run("gantry-config apply splash")
    assert done.stdout == ""
    assert complaint in done.stderr
    assert "our own logo is shown instead" in done.stderr
    assert not pi.file(SHOWN).exists
    put(pi, pi.file(f"{THEME}/logo.png").content)


def test_in_a_chroot_everything_is_in_place(on: On) -> None:
    chroot = on("splash-chroot")
    assert chroot.check_output("plymouth-set-default-theme") == "gantry"
    assert "console=tty3" in words(chroot)
    assert chroot.file(LOGO).exists

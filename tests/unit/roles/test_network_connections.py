"""Hook 30-connections: what is installed, removed and refused.

NetworkManager's client is not on the machine that runs these tests: what it says is given here.
molecule/network has it.
"""

import importlib.util
import json
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HOOK = Path(__file__).parents[3] / "roles" / "network" / "files" / "connections_hook.py"
OFFICE = "[connection]\nid=office\ntype=ethernet\n[ipv4]\naddress1=192.0.2.7/24\nmethod=manual\n"
WIFI = "[connection]\ntype=wifi\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={psk}\n"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("connections_hook", HOOK)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def echo(text: str, _name: str) -> tuple[dict[str, dict[str, str]], str]:
    """A NetworkManager that understands everything."""
    found: dict[str, dict[str, str]] = load().parse(text)
    return found, ""


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The hook on folders of its own, not booted."""
    module = load()
    for name in ("SOURCE", "INSTALLED", "STATE"):
        monkeypatch.setattr(module, name, tmp_path / name.lower())
    module.SOURCE.mkdir()
    module.INSTALLED.mkdir()
    monkeypatch.setattr(module, "nmcli_on", echo)
    monkeypatch.delenv("GANTRY_BOOTED", raising=False)
    return module


def installed(hook: ModuleType) -> dict[str, str]:
    return {each.name: each.read_text() for each in sorted(hook.INSTALLED.iterdir())}


def said(hook: ModuleType, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = hook.main()
    output = capsys.readouterr()
    return status, output.out.strip(), output.err.strip()


def test_a_file_is_installed_once_and_is_root_s_alone(
    hook: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (hook.SOURCE / "office").write_bytes(b"\xef\xbb\xbf" + OFFICE.replace("\n", "\r\n").encode())
    assert said(hook, capsys) == (0, "connections: office installed", "")
    assert installed(hook) == {"office": OFFICE}
    assert stat.S_IMODE((hook.INSTALLED / "office").stat().st_mode) == 0o600
    assert said(hook, capsys) == (0, "", "")


@pytest.mark.parametrize(
    "name",
    ["README", "readme.md", "resin-sample.ignore", ".office.swp", "office~", "office.bak", "a.TXT"],
)
def test_what_people_leave_there_is_left_alone(hook: ModuleType, name: str) -> None:
    (hook.SOURCE / name).write_text(OFFICE)
    assert hook.main() == 0
    assert installed(hook) == {}


def test_a_file_that_is_gone_is_removed_and_another_s_stays(
    hook: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (hook.INSTALLED / "own").write_text("mine")
    (hook.SOURCE / "office").write_text(OFFICE)
    hook.main()
    (hook.SOURCE / "office").unlink()
    capsys.readouterr()
    assert said(hook, capsys) == (0, "connections: office removed", "")
    assert installed(hook) == {"own": "mine"}


def test_a_file_of_the_same_name_comes_back(hook: ModuleType) -> None:
    (hook.INSTALLED / "office").write_text("before")
    for address in ("192.0.2.7", "192.0.2.8"):
        (hook.SOURCE / "office").write_text(OFFICE.replace("192.0.2.7", address))
        hook.main()
        assert address in installed(hook)["office"]
    (hook.SOURCE / "office").unlink()
    hook.main()
    assert installed(hook) == {"office": "before"}
    assert not list((hook.STATE / "replaced").iterdir())


def test_the_boot_partition_is_the_truth(hook: ModuleType) -> None:
    (hook.SOURCE / "office").write_text(OFFICE)
    hook.main()
    (hook.INSTALLED / "office").write_text("edited on the device")
    hook.main()
    assert installed(hook) == {"office": OFFICE}


def test_a_power_loss_between_record_and_file_is_made_good(hook: ModuleType) -> None:
    (hook.SOURCE / "office").write_text(OFFICE)
    hook.main()
    (hook.INSTALLED / "office").unlink()
    hook.main()
    assert installed(hook) == {"office": OFFICE}


def test_a_record_that_is_lost_is_made_anew(hook: ModuleType) -> None:
    (hook.SOURCE / "office").write_text(OFFICE)
    hook.main()
    (hook.STATE / "connections.json").write_text("{")
    hook.main()
    assert list(json.loads((hook.STATE / "connections.json").read_text())) == ["office"]
    (hook.SOURCE / "office").unlink()
    hook.main()
    # The file was there before, as far as anybody knows: it stays what it was.
    assert installed(hook) == {"office": OFFICE}


def test_the_record_has_no_secret(hook: ModuleType) -> None:
    (hook.SOURCE / "home").write_text(WIFI.format(psk="a-long-secret"))
    hook.main()
    record = (hook.STATE / "connections.json").read_text()
    assert "home" in record
    assert "a-long-secret" not in record


def test_without_the_folder_nothing_is_removed(
    hook: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (hook.SOURCE / "office").write_text(OFFICE)
    hook.main()
    (hook.SOURCE / "office").unlink()
    hook.SOURCE.rmdir()
    capsys.readouterr()
    status, output, error = said(hook, capsys)
    assert (status, output) == (1, "")
    assert "is missing, all stay as they are" in error
    assert installed(hook) == {"office": OFFICE}


def test_a_bad_file_leaves_what_was_and_the_others_go_on(
    hook: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    (hook.SOURCE / "office").write_text(OFFICE)
    hook.main()
    (hook.SOURCE / "office").write_text("[connection]\nno setting")
    (hook.SOURCE / "home").write_text(OFFICE.replace("office", "home"))
    capsys.readouterr()
    assert said(hook, capsys) == (
        0,
        "connections: home installed",
        "connections: passed over office: line 2 is neither [section] nor key=value below one",
    )
    assert installed(hook)["office"] == OFFICE


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("key=value\n", "line 1 is neither"),
        (WIFI.format(psk="short"), "psk has 5 bytes: WPA wants 8 to 63"),
        (WIFI.format(psk="x" * 65), "psk has 65 bytes"),
        ("x" * 70_000, "70000 bytes are no connection"),
    ],
)
def test_what_is_refused(
    hook: ModuleType, capsys: pytest.CaptureFixture[str], text: str, complaint: str
) -> None:
    (hook.SOURCE / "trial").write_text(text)
    status, output, error = said(hook, capsys)
    assert (status, output) == (0, "")
    assert complaint in error
    assert installed(hook) == {}


def test_what_is_no_text_is_refused(hook: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    (hook.SOURCE / "trial").write_bytes(b"[connection]\nid=\xff")
    assert "byte 16 is not UTF-8" in said(hook, capsys)[2]


def test_an_address_that_networkmanager_leaves_out_is_named(hook: ModuleType) -> None:
    def forgetful(text: str, name: str) -> tuple[Any, str]:
        sections, _ = echo(text, name)
        sections["ipv4"].pop("address1")
        return sections, ""

    with pytest.raises(hook.RefusedError, match=r"ipv4\.address1 is not understood"):
        hook.check("office", OFFICE, forgetful)


def test_networkmanager_s_complaint_is_said_without_secrets(hook: ModuleType) -> None:
    text = WIFI.format(psk="a-long-secret")
    with pytest.raises(hook.RefusedError) as error:
        hook.check("home", text, lambda *_: ({}, "psk 'a-long-secret'\nis odd"))
    assert str(error.value) == "psk '…' is odd"


def test_two_files_with_one_uuid(hook: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    text = OFFICE.replace("id=office", "id=office\nuuid=9A1f0e2c-0000-4000-8000-000000000001")
    (hook.SOURCE / "a").write_text(text)
    (hook.SOURCE / "b").write_text(text.lower())
    assert "b: its uuid is that of a: give it another" in said(hook, capsys)[2]
    assert list(installed(hook)) == ["a"]


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("0100007F", "127.0.0.1"),
        ("0A0200C0", "192.0.2.10"),
        ("0000000000000000FFFF00000A0200C0", "192.0.2.10"),
        ("B80D0120000000000000000001000000", "2001:db8::1"),
    ],
)
@pytest.mark.skipif(sys.byteorder == "big", reason="the kernel's words are little-endian here")
def test_addresses_of_the_kernel_s_table(hook: ModuleType, address: str, wanted: str) -> None:
    assert hook.plain(address) == wanted


def test_sessions_are_those_of_ssh_that_stand(hook: ModuleType, tmp_path: Path) -> None:
    rows = (
        "  sl  local_address rem_address   st",
        "   0: 00000000:0016 00000000:0000 0A",  # listens
        "   1: 0A0200C0:0016 010200C0:C350 01",  # somebody is logged in
        "   2: 0B0200C0:56CE 010200C0:C351 01",  # on 22222
        "   3: 0C0200C0:01BB 010200C0:C352 01",  # HTTPS
        "   4: 0D0200C0:0016 010200C0:C353 06",  # has ended
    )
    table = tmp_path / "tcp"
    table.write_text("\n".join(rows) + "\n")
    found = hook.session_addresses(table, tmp_path / "none")
    assert found == {"192.0.2.10", "192.0.2.11"}


@pytest.mark.parametrize(
    ("state", "active", "device"),
    [
        ("connected", "Wired connection 1", "eth0"),
        # Just after a start it waits for an address.
        ("connecting (getting IP configuration)", "Wired connection 1", "eth0"),
        ("connected (externally)", "Wired connection 1", ""),
        ("connected", "office", ""),
        ("disconnected", "", ""),
    ],
)
def test_what_networkmanager_made_itself_gives_way(
    hook: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: str,
    active: str,
    device: str,
) -> None:
    (tmp_path / "Wired connection 1.nmconnection").touch()
    monkeypatch.setattr(hook, "GENERATED", tmp_path)
    monkeypatch.setattr(hook, "devices", lambda: {"eth0": (state, active)})
    sections = hook.parse("[connection]\ntype=ethernet\ninterface-name=eth0\n")
    assert hook.target_of(sections, "") == device

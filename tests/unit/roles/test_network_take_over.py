"""take_over.py: how devices of other programs become NetworkManager's."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "network" / "files" / "take_over.py"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, on a root of its own."""
    monkeypatch.setenv("GANTRY_ROOT", str(tmp_path))
    spec = importlib.util.spec_from_file_location("take_over", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    # Its dataclass looks itself up there.
    monkeypatch.setitem(__import__("sys").modules, "take_over", module)
    spec.loader.exec_module(module)
    return module


def address(local: str, width: int, *, dynamic: bool = False) -> dict[str, Any]:
    family = "inet6" if ":" in local else "inet"
    info: dict[str, Any] = {"family": family, "local": local, "prefixlen": width, "scope": "global"}
    return info | ({"dynamic": True} if dynamic else {})


def test_a_fixed_address_becomes_a_connection_file(program: ModuleType) -> None:
    device = program.Device(
        "eth0", "ethernet", (address("192.0.2.7", 24), address("2001:db8::7", 64))
    )
    made = program.connection(device, ["192.0.2.1", "2001:db8::1"], ["192.0.2.53", "2001:db8::53"])
    assert made == (
        "[connection]\nid=gantry-eth0\ntype=ethernet\ninterface-name=eth0\n\n"
        "[ipv4]\nmethod=manual\naddress1=192.0.2.7/24,192.0.2.1\ndns=192.0.2.53;\n\n"
        "[ipv6]\nmethod=auto\naddress1=2001:db8::7/64,2001:db8::1\ndns=2001:db8::53;\n"
    )


def test_a_leased_address_needs_none(program: ModuleType) -> None:
    device = program.Device("eth0", "ethernet", (address("192.0.2.7", 24, dynamic=True),))
    assert program.connection(device, ["192.0.2.1"], []) == ""


def test_a_fixed_address_beside_a_leased_one(program: ModuleType) -> None:
    addresses = (address("192.0.2.7", 24, dynamic=True), address("203.0.113.1", 29))
    made = program.connection(program.Device("eth0", "ethernet", addresses), [], [])
    assert "[ipv4]\nmethod=auto\naddress1=203.0.113.1/29\n" in made


def test_devices_of_ifupdown_are_those_of_its_files(program: ModuleType, tmp_path: Path) -> None:
    folder = tmp_path / "etc/network/interfaces.d"
    folder.mkdir(parents=True)
    (folder.parent / "interfaces").write_text("auto lo\niface lo inet loopback\n")
    (folder / "wired").write_text(
        "allow-hotplug eth0\n  iface eth0 inet dhcp\n# iface eth1 inet dhcp\n"
    )
    found = [
        name
        for name in ("eth0", "eth1", "eth")
        if program.of_ifupdown(program.Device(name, "", ()))
    ]
    assert found == ["eth0"]


def test_devices_of_networkd_are_those_that_it_configured(
    program: ModuleType, tmp_path: Path
) -> None:
    for number, (name, state) in enumerate({"eth0": "configured", "eth1": "unmanaged"}.items()):
        (tmp_path / f"sys/class/net/{name}").mkdir(parents=True)
        (tmp_path / f"sys/class/net/{name}/ifindex").write_text(f"{number}\n")
        link = tmp_path / f"run/systemd/netif/links/{number}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.write_text(f"# private\nADMIN_STATE={state}\nOPER_STATE=routable\n")
    found = [
        name
        for name in ("eth0", "eth1", "eth2")
        if program.of_networkd(program.Device(name, "", ()))
    ]
    assert found == ["eth0"]


@pytest.mark.parametrize(
    ("kind", "file", "refused"),
    [
        ("ethernet", "", False),
        ("wlan", "", True),
        ("wlan", "[connection]\ntype=wifi\n", False),
        ("wlan", "[connection]\ntype=wifi\ninterface-name=wlan1\n", True),
        ("wlan", "[connection]\ntype=ethernet\n", True),
        ("bridge", "[connection]\ntype=wifi\n", True),
    ],
)
def test_what_cannot_change_hands_is_refused(
    program: ModuleType, kind: str, file: str, refused: bool
) -> None:
    device = program.Device("dev0", kind, ())
    program.CONNECTIONS.mkdir(parents=True)
    (program.CONNECTIONS / "a").write_text(file)
    if refused:
        with pytest.raises(program.RefusedError, match=rf"dev0 \({kind}\) is managed by x.service"):
            program.refuse_what_cannot({"x.service": [device]})
    else:
        program.refuse_what_cannot({"x.service": [device]})


def test_devices_are_left_alone_once(
    program: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    program.leave_alone(["eth0", "wlan0"], program.HOLD, check=True)
    assert not program.HOLD.exists()
    assert capsys.readouterr().out.startswith("NetworkManager leaves eth0, wlan0 alone")
    program.leave_alone(["eth0", "wlan0"], program.HOLD, check=False)
    assert program.HOLD.read_text() == (
        "[device-gantry-hold]\nmatch-device=interface-name:eth0;interface-name:wlan0\nmanaged=0\n"
    )
    capsys.readouterr()
    program.leave_alone(["eth0", "wlan0"], program.HOLD, check=False)
    assert capsys.readouterr().out == ""

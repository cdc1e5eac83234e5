"""Hook 35-network: name servers, NetworkManager's settings and the proxy."""

import importlib.util
import stat
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HOOK = Path(__file__).parents[3] / "roles" / "network" / "files" / "network_hook.py"
PROXY = """base { log_debug = on; daemon = on; } // of another machine
# mine
redsocks {
    type = http-connect;
    ip = proxy.site.example; port = 3128;
    local_ip = 127.0.0.1; local_port = 1;
    login = "me; and {you}"; password = "hid\\"den" ;
}
"""


@pytest.fixture
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location("network_hook", HOOK)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def on_disk(hook: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The hook with folders of its own, on a host that has not booted."""
    monkeypatch.setattr(hook, "BOOT", tmp_path / "boot")
    monkeypatch.setattr(hook, "RUN", tmp_path / "run")
    monkeypatch.setattr(hook, "NETWORK_MANAGER", tmp_path / "nm" / "settings.conf")
    monkeypatch.setattr(hook, "BOOTED", False)
    monkeypatch.setattr(hook.shutil, "which", lambda _name: None)
    monkeypatch.setattr(hook.shutil, "chown", lambda *_, **__: None)
    monkeypatch.setattr(hook, "apply_network_manager", lambda _config: "")
    (tmp_path / "boot/system-proxy").mkdir(parents=True)
    return hook


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, ""),
        ("", ""),
        ("null", ""),
        ("1.1.1.1", "server=1.1.1.1\n"),
        (" 1.1.1.1  9.9.9.9#5353 ", "server=1.1.1.1\nserver=9.9.9.9#5353\n"),
        ("2001:db8::53", "server=2001:db8::53\n"),
    ],
)
def test_name_servers(hook: ModuleType, value: str | None, wanted: str) -> None:
    assert hook.name_servers({"dnsServers": value}) == wanted


@pytest.mark.parametrize("value", ["ns.example", "1.1.1.1,9.9.9.9", "1.1.1.1#0", "1.1.1.1#dns"])
def test_what_is_no_name_server_is_named(hook: ModuleType, value: str) -> None:
    with pytest.raises(hook.SettingError, match=r"dnsServers: '.*' is no address: list addresses"):
        hook.name_servers({"dnsServers": value})


def network(**keys: Any) -> dict[str, Any]:
    return {"os": {"network": keys}}


def test_the_check_of_the_internet_is_off_without_a_url(hook: ModuleType) -> None:
    assert hook.connectivity({}) == "[connectivity]\nenabled=false\n"
    assert hook.connectivity(network(connectivity={"uri": ""})) == hook.connectivity({})


def test_the_check_of_the_internet(hook: ModuleType) -> None:
    wanted = network(
        connectivity={"uri": "http://site.test/up", "interval": "300", "response": "x"}
    )
    assert hook.connectivity(wanted).splitlines() == [
        "[connectivity]",
        "enabled=true",
        "uri=http://site.test/up",
        "interval=300",
        "response=x",
    ]


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"connectivity": {"uri": "ftp://a/"}}, r"connectivity\.uri: 'ftp://a/' is no http"),
        ({"connectivity": {"uri": "http://a b/"}}, r"connectivity\.uri"),
        ({"connectivity": {"uri": "http://a/\n[x]"}}, r"connectivity\.uri"),
        ({"connectivity": {"uri": "http://a/", "interval": 5}}, "interval: '5' is no number of s"),
        ({"connectivity": {"uri": "http://a/", "interval": "1h"}}, "interval: '1h'"),
        ({"connectivity": {"uri": "http://a/", "response": "a\n[b]"}}, "must be one line"),
        ({"connectivity": []}, r"os\.network\.connectivity must be an object"),
        ({"wifi": {"randomMacAddressScan": "true"}}, "must be true or false"),
    ],
)
def test_what_networkmanager_could_not_have(
    hook: ModuleType, keys: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(hook.SettingError, match=complaint):
        hook.network_manager(network(**keys))


@pytest.mark.parametrize(("value", "wanted"), [({}, "no"), ({"randomMacAddressScan": True}, "yes")])
def test_addresses_of_scans(hook: ModuleType, value: dict[str, Any], wanted: str) -> None:
    text = hook.network_manager(network(wifi=value))
    assert text.endswith(f"wifi.scan-rand-mac-address={wanted}\n")


def test_an_operator_s_proxy_is_run_our_way(hook: ModuleType) -> None:
    made = hook.redsocks_conf(PROXY)
    assert "daemon = off;" in made
    inner = made.partition("redsocks {\n")[2]
    assert [line.strip() for line in inner.splitlines()] == [
        "local_ip = 10.114.102.1;",
        "local_port = 12345;",
        "type = http-connect;",
        "ip = proxy.site.example;",
        "port = 3128;",
        'login = "me; and {you}";',
        'password = "hid\\"den";',
        "}",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not made of sections"),
        ("192.0.2.1:1080", "is not made of sections"),
        ("redsocks { type = socks5; ip = a; port = 1;", "section redsocks is not made of"),
        ("redsocks { type = socks5 ip = a; }", "section redsocks is not made of"),
        (PROXY + "}", "is not made of sections"),
        (PROXY + PROXY, "has 2 proxies: one is wanted"),
        ("base { }", "has 0 proxies"),
        ("redsocks { type = socks5; }", "redsocks has no ip, port"),
        (PROXY.replace("http-connect", "https"), "type must be one of http-connect, "),
        (PROXY.replace("3128", "99999"), "port must be 1 to 65535"),
        (PROXY + "shell { run = rm; }", "section shell is not known"),
    ],
)
def test_a_proxy_that_is_none_is_named_without_its_secrets(
    hook: ModuleType, text: str, complaint: str
) -> None:
    with pytest.raises(hook.SettingError, match=complaint) as error:
        hook.redsocks_conf(text)
    assert "hid" not in str(error.value)


def test_networks_that_are_reached_directly(hook: ModuleType) -> None:
    found = hook.direct(
        "# ours\n198.51.100.7\n\n203.0.113.9/24 # with a host's bits\n10.1.0.0/16\n"
    )
    assert {"198.51.100.7/32", "203.0.113.0/24", "10.0.0.0/8", "127.0.0.0/8"} <= set(found)
    assert "10.1.0.0/16" not in found  # nftables takes no interval twice


@pytest.mark.parametrize("line", ["site.example", "2001:db8::/32", "10.0.0.0/33"])
def test_a_network_that_is_none_is_named(hook: ModuleType, line: str) -> None:
    with pytest.raises(hook.SettingError, match=r"system-proxy/no_proxy: '.*' is no IPv4 address"):
        hook.direct(line)


def test_files_come_and_go_with_their_settings(
    on_disk: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "boot/system-proxy/redsocks.conf").write_text(PROXY)
    assert on_disk.main({"dnsServers": "1.1.1.1"}) == 0
    assert capsys.readouterr().out == (
        "network: 1 name servers of dnsServers, the proxy of system-proxy/\n"
    )
    conf = tmp_path / "run/proxy/redsocks.conf"
    assert stat.S_IMODE(conf.stat().st_mode) == 0o640
    assert (tmp_path / "run/dns/preferred.conf").read_text() == "server=1.1.1.1\n"
    assert on_disk.main({"dnsServers": "1.1.1.1"}) == 0
    assert capsys.readouterr().out == ""
    (tmp_path / "boot/system-proxy/redsocks.conf").unlink()
    assert on_disk.main({}) == 0
    assert capsys.readouterr().out == "network: the network's name servers, no proxy\n"
    assert not [each for each in (tmp_path / "run").rglob("*") if each.is_file()]


def test_one_bad_setting_does_not_keep_the_others_from_it(
    on_disk: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "boot/system-proxy/redsocks.conf").write_text("nothing")
    assert on_disk.main({"dnsServers": "1.1.1.1", "country": "Germany"}) == 1
    output = capsys.readouterr()
    assert output.out == "network: 1 name servers of dnsServers\n"
    assert output.err == (
        "network: country must be two letters, such as DE; "
        "system-proxy/redsocks.conf is not made of sections such as redsocks { … }\n"
    )

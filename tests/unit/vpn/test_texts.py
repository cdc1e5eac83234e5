"""What is written for openvpn and nft, and the service's own configuration."""

import json
from pathlib import Path

import pytest

from gantry.configuration import ConfigError
from gantry.vpn.config import Config, load
from gantry.vpn.openvpn_conf import DATA_CIPHERS, TLS_CIPHERS, openvpn_conf
from gantry.vpn.rules import ruleset

GOOD = {
    "fleet": "devbots",
    "host": "devbots.gantry.internal",
    "server": "vpn-1",
    "api_url": "http://api:8080",
    "service_key": "s3cret-" * 4,
}


def written(folder: Path, fields: object) -> Path:
    path = folder / "vpn.json"
    path.write_text(json.dumps(fields))
    return path


def config(**changes: object) -> Config:
    return Config.model_validate(GOOD | changes)


def test_what_openvpn_is_told() -> None:
    text = openvpn_conf(config(), Path("/run/gantry/openvpn.sock"))
    lines = text.splitlines()
    # openvpn(8): a line of its configuration has at most 255 characters.
    assert max(map(len, lines)) < 256
    for line in (
        "ifconfig 100.64.0.1 255.192.0.0",
        "management /run/gantry/openvpn.sock unix",
        "management-client-auth",
        "verify-client-cert none",
        "username-as-common-name",
        "script-security 0",
        "tls-version-min 1.2",
        "ping-restart 45",
        'push "ping-restart 45"',
    ):
        assert line in lines
    words = {line.partition(" ")[0] for line in lines}
    # Devices do not meet in openvpn, share no name, and run nothing here.
    assert words.isdisjoint({"client-to-client", "duplicate-cn", "plugin", "up", "comp-lzo"})
    assert not any("pool" in word for word in words)


def test_ciphers_authenticate_what_they_encrypt() -> None:
    for each in (*DATA_CIPHERS, *TLS_CIPHERS):
        assert "GCM" in each or "POLY1305" in each
    assert all("ECDHE" in each for each in TLS_CIPHERS)


def test_rates_make_meters_and_no_rate_makes_none() -> None:
    limited, free = ruleset(500_000), ruleset(0)
    assert limited.count("limit rate over 500000 bytes/second burst 500000 bytes") == 2
    assert "ip saddr" in limited
    assert "ip daddr" in limited
    assert "limit" not in free
    assert "set " not in free
    # A burst that holds no whole packets would stop everything.
    assert "burst 65536 bytes" in ruleset(1000)


@pytest.mark.parametrize("rate", [0, 1000, 10**9])
def test_the_text_is_whole(rate: int) -> None:
    text = ruleset(rate)
    assert text.count("{") == text.count("}")
    assert "policy drop" in text.partition("chain forward")[2].partition("}")[0]


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANTRY_CONFIG", str(written(tmp_path, GOOD)))
    found = load()
    assert str(found.network) == "100.64.0.0/10"
    assert found.listen.tunnels == 3129
    assert "s3cret" not in repr(found)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"service_key": "short-one"}, "service_key"),
        ({"server": "vpn 1"}, "server"),
        ({"peer": {}}, "peer: Extra"),
        ({"address": "10.0.0.1"}, "not in the network"),
        ({"peers": {"vpn-1": "http://vpn-1:3128"}}, "among its own peers"),
        ({"peers": {"vpn-2": "vpn-2:3128"}}, "peers.vpn-2"),
    ],
)
def test_faults_are_named_without_their_values(
    tmp_path: Path, change: dict[str, object], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        load(written(tmp_path, GOOD | change))
    assert "short-one" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load(tmp_path / "none.json")

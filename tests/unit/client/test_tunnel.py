"""The way into a tunnel: where it is, through which proxy, and what refusals say."""

import pytest

from gantry.client import tunnel
from gantry.client.api_client import _tunnel
from gantry.client.errors import ClientError, ExitCode
from gantry.client.tunnel import Place, Target

TARGET = Target("a" * 32, 80, "crane")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ExitCode.USAGE),
        (401, ExitCode.NOT_AUTHORISED),
        (403, ExitCode.NOT_AUTHORISED),
        (404, ExitCode.NOT_FOUND),
        (407, ExitCode.NOT_AUTHORISED),
        (409, ExitCode.UNREACHABLE),
        (418, ExitCode.FAILED),
        (429, ExitCode.FAILED),
        (502, ExitCode.UNREACHABLE),
        (503, ExitCode.UNREACHABLE),
        (504, ExitCode.UNREACHABLE),
    ],
)
def test_refusals(status: int, code: ExitCode) -> None:
    own = tunnel.refusal(status, "", TARGET, "devbots")
    assert own.code is code
    assert str(own).startswith("crane, port 80: ")
    said = tunnel.refusal(status, "so it is.\n", TARGET, "devbots")
    assert "so it is" in str(said)
    if status in (401, 407):
        assert str(said).endswith("log in again with `gantry login --fleet devbots`")


def test_places() -> None:
    assert tunnel.parse_place("tunnel.x.internal:1194") == Place("tunnel.x.internal", 1194)
    assert tunnel.parse_place("[::1]:1194", "http://p") == Place("::1", 1194, "http://p")
    for wrong in ("tunnel.x.internal", "x:port", "", ":80", "x:99999"):
        with pytest.raises(ClientError, match="no place of tunnels"):
            tunnel.parse_place(wrong)


def test_a_fleet_tells_its_place_as_a_name_or_a_url() -> None:
    assert _tunnel({"tunnelUrl": "tunnel.x", "vpnPort": 1194}) == "tunnel.x:1194"
    assert _tunnel({"tunnelUrl": "https://tunnel.x:444", "vpnPort": 1194}) == "tunnel.x:444"
    assert _tunnel({"tunnelUrl": "tunnel.balena-cloud.com"}) == "tunnel.balena-cloud.com:443"
    assert _tunnel({"tunnelUrl": None, "vpnPort": None}) is None
    assert _tunnel({}) is None


def test_the_sites_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert tunnel.proxy_for("tunnel.x", None) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://site:3128")
    assert tunnel.proxy_for("tunnel.x", None) == "http://site:3128"
    assert tunnel.proxy_for("tunnel.x", "http://kept:1") == "http://kept:1"
    monkeypatch.setenv("NO_PROXY", "example.com,.x")
    assert tunnel.proxy_for("tunnel.x", None) is None

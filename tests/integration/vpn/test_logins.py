"""Devices log in with their uuid and key, and stay as long as the key does."""

import secrets
from typing import Any

import pytest

from tests.integration.vpn.network import SERVICE_KEY, Client, Server, wait_until


def test_a_device_logs_in_and_the_api_says_so(cloud: Any, server: Server) -> None:
    device = cloud.device()
    assert not cloud.is_connected(device)
    client = cloud.client(device).connect()
    address = client.connected()
    cloud.wait_connected(device, timeout=10)
    assert address.startswith("100.64.")
    before = cloud.row(device)["last_vpn_event"]
    log = client.log()
    assert "Control Channel: TLSv1.3" in log
    assert "Data Channel: cipher 'CHACHA20-POLY1305'" in log
    client.disconnect()
    cloud.wait_gone(device, timeout=10)
    assert cloud.row(device)["last_vpn_event"] > before
    assert client.connect().connected() == address  # kept, from the database
    cloud.wait_connected(device, timeout=10)


def test_wrong_keys_and_unknown_uuids_are_refused_in_the_same_words(
    cloud: Any, server: Server
) -> None:
    device, other = cloud.device(), cloud.device()
    refused = [
        cloud.client(device, key="0" * 32),
        cloud.client(device, key=other.key),
        Client(cloud.net, "vpn-1", secrets.token_hex(16), device.key),
        Client(cloud.net, "vpn-1", "robot-7", device.key),
        Client(cloud.net, "vpn-1", device.uuid, cloud.person()),
    ]
    try:
        for each in refused:
            each.connect()
        for each in refused:
            each.hears("AUTH_FAILED,wrong uuid or key")
            assert "Initialization Sequence Completed" not in each.log()
    finally:
        for each in refused[2:]:
            each.remove()
    assert not cloud.is_connected(device)


def test_the_newer_login_of_a_device_wins(cloud: Any, server: Server) -> None:
    device = cloud.device()
    older = cloud.client(device, "vpn-1", "remap-usr1 SIGTERM").connect()
    address = older.connected()
    cloud.wait_connected(device)
    newer = cloud.client(device).connect()
    assert newer.connected() == address
    older.hears("process exiting", timeout=60)
    newer.serve(80, "the newer")
    assert _fetch(server, address) == "the newer"
    assert cloud.is_connected(device)


def test_a_key_that_is_revoked_cuts_its_device_off(cloud: Any, server: Server) -> None:
    device, other = cloud.device(), cloud.device()
    client, bystander = cloud.client(device).connect(), cloud.client(other).connect()
    client.connected()
    bystander.connected()
    cloud.wait_connected(device, other)
    cloud.revoke_device(device)
    assert cloud.wait_gone(device, timeout=30) < 30
    client.hears("AUTH_FAILED,wrong uuid or key")
    assert cloud.is_connected(other)


def test_keys_are_made_anew_and_the_api_is_asked_again(cloud: Any) -> None:
    busy = cloud.server("vpn-busy", renegotiate_seconds=12)
    device = cloud.device()
    client = cloud.client(device, "vpn-busy").connect()
    address = client.connected()
    client.serve(80, "still here")
    wait_until(lambda: busy.login("renewed") >= 2, 60, busy.output)
    assert _fetch(busy, address) == "still here"
    cloud.wait_connected(device)
    # Who is in stays in while the api is away, with the very key that it came with.
    with cloud.away():
        wait_until(lambda: busy.login("kept") >= 1, 60, busy.output)
        assert _fetch(busy, address) == "still here"


@pytest.mark.parametrize(
    ("words", "heard"),
    [
        # A data channel that proves nothing of what it carries.
        (("data-ciphers AES-256-CBC",), "no shared cipher"),
        # A control channel that does not, and one that is too old: the server ends both at their
        # first word.
        (
            ("tls-version-max 1.2", "tls-cipher TLS-ECDHE-ECDSA-WITH-AES-256-CBC-SHA384"),
            "Connection reset, restarting",
        ),
        (
            ("tls-version-min 1.0", "tls-version-max 1.1", "tls-cipher DEFAULT:@SECLEVEL=0"),
            "Connection reset, restarting",
        ),
    ],
)
def test_what_is_weak_is_not_spoken(
    cloud: Any, server: Server, words: tuple[str, ...], heard: str
) -> None:
    device = cloud.device()
    client = cloud.client(device, "vpn-1", *words).connect()
    client.hears(heard)
    assert "Initialization Sequence Completed" not in client.log()
    assert not cloud.is_connected(device)


def test_nothing_secret_is_printed(cloud: Any, server: Server) -> None:
    device = cloud.device()
    cloud.client(device).connect().connected()
    printed = server.output()
    assert device.uuid in printed
    assert device.key not in printed
    assert SERVICE_KEY not in printed


def test_a_server_has_the_powers_of_the_contract_and_no_more(server: Server) -> None:
    settings = server.container.attrs["HostConfig"]
    assert settings["CapAdd"] in (["NET_ADMIN"], ["CAP_NET_ADMIN"])
    assert settings["CapDrop"] == ["ALL"]
    assert server.sh("grep CapEff /proc/1/status").split() == ["CapEff:", "0000000000001000"]


def _fetch(server: Server, address: str) -> str:
    return server.sh(f"curl -s --max-time 10 http://{address}/")

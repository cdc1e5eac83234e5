"""Two servers behind the balancer: devices come back on the other, and are reached from both."""

import importlib.util
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gantry.deployment.images import build_image
from tests.integration.vpn.network import HOST, SERVICE_KEY, wait_until
from tests.integration.vpn.proxy import ask


@pytest.fixture(scope="module")
def balancer(cloud: Any) -> Iterator[Any]:
    """The balancer as it is deployed, with its configuration of the fleet's program."""
    cfg = _haproxy_cfg(["vpn-1", "vpn-2"])
    container = cloud.net.run(
        "balancer",
        {"haproxy.cfg": cfg},
        None,
        image=build_image("balancer", print).tag,
        cap_add=[],
        devices=[],
        user="10006:10006",
    )
    yield container
    print(container.logs().decode(errors="replace"))
    container.remove(force=True)


def _haproxy_cfg(servers: list[str]) -> str:
    path = Path(__file__).parents[3] / "infra" / "haproxy_cfg.py"
    spec = importlib.util.spec_from_file_location("haproxy_cfg", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["haproxy_cfg"] = module
    spec.loader.exec_module(module)
    return str(module.haproxy_cfg(HOST, 1194, servers, module.Room(2000, 1000, 300)))


def test_devices_come_back_on_the_other_server(cloud: Any, balancer: Any) -> None:
    entrance = cloud.net.address(balancer)
    peers = {name: f"http://{name}:3128" for name in ("vpn-1", "vpn-2")}
    servers = {
        name: cloud.server(name, peers={other: peers[other] for other in peers if other != name})
        for name in peers
    }
    devices = [cloud.device() for _ in range(4)]
    clients = [cloud.client(each, entrance).connect() for each in devices]
    addresses = [each.connected(90) for each in clients]
    cloud.wait_connected(*devices)
    assert len(set(addresses)) == len(devices)
    counts = {name: each.metric("gantry_vpn_devices_connected") for name, each in servers.items()}
    assert counts == {"vpn-1": 2, "vpn-2": 2}  # each where fewer were

    # People come in at the same port, at any server, and reach devices of both.
    key = cloud.person()
    for client in clients:
        client.serve(80, client.uuid)
    for device in devices:
        target = f"{device.uuid}.gantry:80"
        with ask(servers["vpn-1"], target, f"Bearer {key}", at=(entrance, 1194)) as answer:
            assert answer.status == 200, answer.body
            assert _page(answer.socket).endswith(device.uuid)
        cloud.set_public(device, on=True)
        for server in servers.values():
            name = f"{device.uuid}.devices.{HOST}"
            page = httpx2.get(f"http://{server.address}:8081/", headers={"Host": name}, timeout=20)
            assert page.text == device.uuid
    # What a peer says of a closed port is said on.
    for device in devices:
        with ask(servers["vpn-1"], f"{device.uuid}.gantry:9", f"Bearer {key}") as answer:
            assert (answer.status, "port 9" in answer.body) == (502, True)

    servers["vpn-1"].container.kill()
    for client, address in zip(clients, addresses, strict=True):
        wait_until(lambda: servers["vpn-2"].metric("gantry_vpn_devices_connected") == 4, 90)
        assert client.tunnel_address == address
    cloud.wait_connected(*devices)
    for device in devices:
        target = f"{device.uuid}.gantry:80"
        with ask(servers["vpn-2"], target, f"Bearer {SERVICE_KEY}", tls=False) as answer:
            assert answer.status == 200, answer.body


def test_nothing_else_comes_in(cloud: Any, balancer: Any) -> None:
    entrance = cloud.net.address(balancer)
    context = ssl.create_default_context(cadata=cloud.net.authority.certificate_pem)
    refused = (ssl.SSLError, ConnectionResetError)
    with socket.create_connection((entrance, 1194), 20) as end, pytest.raises(refused):
        context.wrap_socket(end, server_hostname=f"api.{HOST}")
    with socket.create_connection((entrance, 1194), 20) as end:
        end.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert end.recv(1) == b""


def _page(end: socket.socket) -> str:
    end.sendall(b"GET / HTTP/1.0\r\n\r\n")
    text = b""
    while piece := end.recv(4096):
        text += piece
    return text.decode()

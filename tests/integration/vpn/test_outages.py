"""What dies comes back, and meanwhile nobody is told a wrong thing for long."""

import os
import re
import signal
import time
from typing import Any

from tests.integration.vpn.network import Server, wait_until


def test_devices_come_back_after_their_server_was_killed(
    cloud: Any, server: Server, member: Any
) -> None:
    members = [member() for _ in range(3)]
    addresses = [client.tunnel_address for _, client in members]
    before = [cloud.row(device)["last_vpn_event"] for device, _ in members]
    starts = server.metric("gantry_vpn_openvpn_starts_total")
    (pid,) = server.process_ids("openvpn")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: server.process_ids("openvpn") not in ([], [pid]), 20)
    for (device, client), address, event in zip(members, addresses, before, strict=True):
        client.hears("Initialization Sequence Completed", 2, 60)
        assert client.tunnel_address == address
        cloud.wait_connected(device)
        # That they were gone in between was told too.
        assert cloud.row(device)["last_vpn_event"] > event
    assert server.metric("gantry_vpn_openvpn_starts_total") == starts + 1


def test_without_the_api_nobody_comes_in_and_nobody_is_thrown_out(
    cloud: Any, server: Server, member: Any
) -> None:
    inside, client = member()
    leaving, leaver = member()
    late = cloud.device()
    address = client.tunnel_address
    client.serve(80, "still here")
    with cloud.away():
        newcomer = cloud.client(late).connect()
        newcomer.hears("AUTH_FAILED,TEMP")
        backoff = re.search(r"TEMP\[backoff (\d+)\]", newcomer.log())
        assert backoff
        assert 5 <= int(backoff[1]) <= 30
        leaver.disconnect()
        time.sleep(2)
        assert server.sh(f"curl -s --max-time 5 http://{address}/") == "still here"
        assert "Initialization Sequence Completed" not in newcomer.log()
    # What happened meanwhile is told, and who waited comes in.
    cloud.wait_gone(leaving, timeout=30)
    newcomer.connected(90)
    cloud.wait_connected(late, inside, timeout=30)


def test_a_service_that_is_stopped_says_that_its_devices_left(cloud: Any, member: Any) -> None:
    other = cloud.server("vpn-2")
    device = cloud.device()
    cloud.client(device, "vpn-2", "connect-retry 60").connect().connected()
    cloud.wait_connected(device)
    other.container.stop(timeout=20)
    other.container.reload()
    assert other.container.attrs["State"]["ExitCode"] == 0
    cloud.wait_gone(device, timeout=5)
    assert "Traceback" not in other.output()

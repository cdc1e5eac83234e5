"""What a user does with a device that they cannot reach: over its tunnel to the fleet."""

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.looks import DEVICE, application_container
from tests.e2e.test_first_push import PROTOCOL
from tests.fleet_under_test import GANTRY, FleetUnderTest, wait_for
from tests.ports import free_port

PORT = 31950


def connection(fleet: FleetUnderTest) -> dict[str, Any]:
    """The device's connection fields, as the api has them."""
    fields = "uuid,is_connected_to_vpn,last_vpn_event"
    query = f"device?$filter=device_name eq '{DEVICE}'&$select={fields}"
    # What follows the rows is for people.
    rows, _ = json.JSONDecoder().raw_decode(fleet.gantry("query", query))
    found: dict[str, Any] = rows[0]
    return found


def wait_until_connected(fleet: FleetUnderTest, connected: bool = True) -> dict[str, Any]:
    def probe() -> dict[str, Any] | None:
        seen = connection(fleet)
        return seen if seen["is_connected_to_vpn"] is connected else None

    return wait_for(f"is_connected_to_vpn to be {connected}", probe, 120)


@contextmanager
def tunnel(fleet: FleetUnderTest, port: int) -> Iterator[int]:
    """`gantry tunnel` to a port of the device; the port here that leads to it."""
    here = free_port()
    command = [str(GANTRY), "tunnel", DEVICE, "-p", f"{here}:{port}"]
    with subprocess.Popen(
        command, env=fleet.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert str(here) in line, line
            yield here
        finally:
            process.terminate()


def posted(url: str, body: bytes) -> str:
    request = urllib.request.Request(url, body, {"Content-Type": "text/x-python"})
    with urllib.request.urlopen(request, timeout=240) as answer:
        return str(answer.read().decode())


def actions(fleet: FleetUnderTest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.gantry_json("actions", "-d", DEVICE)
    return found


def public_status(fleet: FleetUnderTest, url: str) -> int:
    """What a browser gets of a public URL. No hosts file has such names: curl is told."""
    host = url.removeprefix("https://").split("/")[0].split(":")[0]
    done = fleet.run(
        "curl",
        *("--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "20"),
        *("--cacert", str(fleet.workspace / "config" / fleet.name / "ca.crt")),
        *("--resolve", f"{host}:{fleet.https_port}:127.0.0.1"),
        url,
        check=False,
    )
    return int(done.stdout.strip() or 0)


def test_the_device_is_seen_online(alpha: FleetUnderTest) -> None:
    seen = wait_until_connected(alpha)
    assert seen["last_vpn_event"]


def test_a_shell_on_the_host(alpha: FleetUnderTest) -> None:
    assert alpha.gantry("ssh", DEVICE, "--", "hostname").strip().endswith(DEVICE)
    done = alpha.run(str(GANTRY), "ssh", DEVICE, "--", "sh", "-c", "exit 17", check=False)
    assert done.returncode == 17


def test_a_shell_in_a_service(alpha: FleetUnderTest) -> None:
    assert alpha.gantry("ssh", DEVICE, "main", "--", "uname", "-m").strip() == "aarch64"
    done = alpha.run(str(GANTRY), "ssh", DEVICE, "main", "--", "sh", "-c", "exit 9", check=False)
    assert done.returncode == 9
    refused = alpha.run(str(GANTRY), "ssh", DEVICE, "nosuch", "--", "true", check=False)
    assert refused.returncode != 0
    assert "main" in refused.stdout


def test_the_shell_is_in_the_audit_log(alpha: FleetUnderTest) -> None:
    uuid = str(connection(alpha)["uuid"])
    rows = [
        each for each in alpha.gantry_json("audit", "--resource", "device") if each["name"] == uuid
    ]
    assert any(
        each["action"] == "open tunnel" and each["changes"]["port"] == 22222 for each in rows
    ), rows[:5]
    assert any(each["action"] == "accept ssh key" for each in rows), rows[:5]


def test_a_file_there_and_back(alpha: FleetUnderTest, tmp_path: Path) -> None:
    sent = tmp_path / "sent file"
    sent.write_bytes(b"one\x00two" * 10_000)
    alpha.gantry("cp", str(sent), f"{DEVICE}:/tmp/a file")
    alpha.gantry("cp", f"{DEVICE}:/tmp/a file", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == sent.read_bytes()
    # And into the service, from which it is read as its program reads it.
    alpha.gantry("cp", str(sent), f"{DEVICE}/main:/tmp/a file")
    counted = alpha.gantry("ssh", DEVICE, "main", "--", "wc", "-c", "/tmp/a file")
    assert counted.split()[0] == str(sent.stat().st_size)


def test_the_journal_of_the_host(alpha: FleetUnderTest) -> None:
    lines = alpha.gantry("device", "journal", DEVICE, "-n", "20", "-u", "gantry-vpn")
    assert "Initialization Sequence Completed" in lines


def test_a_protocol_is_simulated_through_a_tunnel(alpha: FleetUnderTest) -> None:
    with tunnel(alpha, PORT) as here:
        answer = posted(f"http://127.0.0.1:{here}/simulate", PROTOCOL.encode())
    assert "Transferring 100.0 from A1" in answer


def test_a_service_is_restarted_from_afar(alpha: FleetUnderTest) -> None:
    def runs() -> str:
        """Which container the service has, and since when it runs."""
        container = application_container(alpha, DEVICE)
        form = "{{.Id}} {{.State.StartedAt}}"
        command = ("docker", "inspect", "-f", form, container)
        return alpha.in_device(DEVICE, *command, check=False).strip()

    before = runs()
    alpha.gantry("device", "restart", DEVICE, "--service", "main", "--wait")
    assert actions(alpha)[0]["status"] == "done"
    wait_for("it to run anew", lambda: runs() not in ("", before), 60)


def test_an_action_waits_for_a_device_that_is_away(alpha: FleetUnderTest) -> None:
    alpha.run("docker", "stop", f"gantry-device-{DEVICE}")
    wait_until_connected(alpha, connected=False)
    printed = alpha.gantry("device", "restart", DEVICE, "--service", "main")
    assert re.search(r"kept|until", printed), printed
    kept = actions(alpha)[0]
    assert kept["status"] == "pending"
    alpha.gantry("device", "identify", DEVICE)
    alpha.gantry("actions", "cancel", str(actions(alpha)[0]["id"]))
    assert actions(alpha)[0]["status"] == "cancelled"

    alpha.run("docker", "start", f"gantry-device-{DEVICE}")

    def done() -> bool:
        found = {each["id"]: each["status"] for each in actions(alpha)}
        return found[kept["id"]] == "done"

    wait_for("the kept action to be done", done, 180)


def test_a_public_url_on_and_off(alpha: FleetUnderTest) -> None:
    serve = "cd /tmp && nohup python3 -m http.server 80 >/dev/null 2>&1 &"
    alpha.in_device(DEVICE, "sh", "-c", serve)
    uuid = str(connection(alpha)["uuid"])
    url = f"https://{uuid}.devices.{alpha.host}:{alpha.https_port}/"
    assert public_status(alpha, url) == 404
    assert url.rstrip("/") in alpha.gantry("device", "public-url", DEVICE, "--on")
    wait_for("the public URL", lambda: public_status(alpha, url) == 200, 30)
    alpha.gantry("device", "public-url", DEVICE, "--off")
    wait_for("its end", lambda: public_status(alpha, url) == 404, 30)

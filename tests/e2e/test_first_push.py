"""One command, and a fleet runs the example on a device."""

from tests.e2e.conftest import quickstart
from tests.e2e.looks import DEVICE, application_container
from tests.fleet_under_test import FleetUnderTest, wait_for

PROTOCOL = """
from opentrons import protocol_api
metadata = {"apiLevel": "2.13"}
def run(protocol: protocol_api.ProtocolContext):
    plate = protocol.load_labware("corning_96_wellplate_360ul_flat", "2")
    tips = protocol.load_labware("opentrons_96_tiprack_300ul", "1")
    pipette = protocol.load_instrument("p300_single", "right", tip_racks=[tips])
    pipette.transfer(100, plate["A1"], plate["B1"])
"""
# Run inside the device, where the application's port is.
POST = """
import sys, urllib.request
url = "http://127.0.0.1:31950/simulate"
request = urllib.request.Request(url, sys.stdin.buffer.read(), {"Content-Type": "text/x-python"})
sys.stdout.write(urllib.request.urlopen(request, timeout=300).read().decode())
"""


def test_one_command_brings_a_fleet_a_device_and_the_example(alpha: FleetUnderTest) -> None:
    output = quickstart(alpha, "up")
    assert f"admin@{alpha.host}:admin/alphabots.git" in output
    assert f"ssh://admin@{alpha.host}:{alpha.git_port}/admin/alphabots.git" in output
    assert "git push alphabots main" in output
    password = (alpha.workspace / "config" / "alphabots" / "admin-password").read_text().strip()
    assert len(password) >= 16
    assert password not in output
    assert alpha.device(DEVICE)["is_online"]


def test_the_application_runs_on_aarch64(alpha: FleetUnderTest) -> None:
    container = application_container(alpha, DEVICE)
    assert alpha.in_device(DEVICE, "docker", "exec", container, "uname", "-m").strip() == "aarch64"


def test_a_posted_protocol_is_simulated(alpha: FleetUnderTest) -> None:
    script = f"cat > /tmp/post.py <<'END'\n{POST}\nEND\ncat > /tmp/p.py <<'END'\n{PROTOCOL}\nEND\n"
    alpha.in_device(DEVICE, "sh", "-c", script)

    def post() -> str | None:
        command = ("sh", "-c", "python3 /tmp/post.py < /tmp/p.py")
        answer = alpha.in_device(DEVICE, *command, check=False)
        return answer if answer.startswith("{") else None

    answer = wait_for("the simulation's answer", post, 240, every=5)
    assert "Transferring 100.0 from A1" in answer
    assert "Picking up tip" in answer

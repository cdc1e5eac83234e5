"""Images for other processors than the builder's own."""

import time
from typing import Any

import pytest

from gantry import __version__
from gantry.contracts.build import ReleaseStatus
from gantry.contracts.device_types import Architecture
from tests.integration.builder.standin import REGISTRY
from tests.integration.builder.trees import MACHINE

Rig = Any
TEMPLATE = (
    "FROM gantry/%%BALENA_ARCH%%-raspios:bookworm\n"
    "RUN echo runs on $(uname -m), packages are $(dpkg --print-architecture)\n"
)


def test_aarch64_from_the_base_that_is_shipped(rig: Rig) -> None:
    result, lines = rig.result(
        {"Dockerfile.template": TEMPLATE}, application_id=30, device_type="raspberrypi3-64"
    )
    assert result.status is ReleaseStatus.SUCCESS, [result.error, *lines]
    assert "[main] runs on aarch64, packages are arm64" in lines
    assert not any("not made yet" in each for each in lines)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("board", "arch", "packages", "qemu"),
    [
        ("raspberry-pi", Architecture.RPI, "armel", "QEMU_CPU=arm1176"),
        ("raspberrypi3", Architecture.ARMV7HF, "armhf", "QEMU_CPU=cortex-a7"),
        ("raspberrypi3-64", Architecture.AARCH64, "arm64", "QEMU_CPU=cortex-a53"),
    ],
)
def test_programs_run_on_the_boards_processor(
    rig: Rig, board: str, arch: Architecture, packages: str, qemu: str
) -> None:
    """The processors of the first Raspberry Pi and the Zero, of the second, and of the third.

    Makes the base, if it is not shipped, and the supervisor's image: minutes.
    """
    proof = (
        f"RUN {qemu} python3 -c "
        "'import hashlib, os, ssl, sqlite3; print(os.uname().machine, ssl.OPENSSL_VERSION)'\n"
    )
    result, lines = rig.result(
        {"Dockerfile.template": TEMPLATE + proof}, application_id=31, device_type=board
    )
    assert result.status is ReleaseStatus.SUCCESS, [result.error, *lines]
    assert any(f"packages are {packages}" in each for each in lines)
    assert any(each.startswith(f"[main] {MACHINE[arch]} OpenSSL 3") for each in lines)

    image = f"{REGISTRY}/gantry/{arch}-supervisor:{__version__}"
    wait_for_log(rig, f"supervisor image: pushed {image}")
    with rig.running(image, f"--platform {arch.platform} --env {qemu}") as supervisor:
        supervisor.answer(48484, "/v1/healthy")
        said = supervisor.logs()
        print(arch, supervisor.sh("uname -m"), said, sep="\n")
        assert supervisor.sh("dpkg --print-architecture") == packages
    assert f"supervisor {__version__}" in said
    assert "listening on 0.0.0.0:48484" in said


def wait_for_log(rig: Rig, text: str) -> None:
    deadline = time.monotonic() + 900
    while time.monotonic() < deadline:
        if text in rig.container.logs().decode():
            return
        time.sleep(1)
    raise AssertionError(rig.container.logs(tail=100).decode())

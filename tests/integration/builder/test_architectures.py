"""Images for other processors than the builder's own."""

from typing import Any

import pytest

from gantry.contracts.build import ReleaseStatus

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
def test_armv6_programs_run_on_an_arm1176(rig: Rig) -> None:
    """The processor of the first Raspberry Pi and of the Zero. Makes the base: minutes."""
    proof = (
        "RUN QEMU_CPU=arm1176 python3 -c "
        "'import hashlib, ssl, sqlite3; print(\"arm1176:\", ssl.OPENSSL_VERSION)'\n"
    )
    result, lines = rig.result(
        {"Dockerfile.template": TEMPLATE + proof}, application_id=31, device_type="raspberry-pi"
    )
    assert result.status is ReleaseStatus.SUCCESS, [result.error, *lines]
    assert any("not made yet" in each for each in lines)
    assert any("packages are armel" in each for each in lines)
    assert any(each.startswith("[main] arm1176: OpenSSL") for each in lines)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "files",
    [
        {"requirements.txt": "idna==3.10\n", "main.py": "import idna\n"},
        {"package.json": '{"name": "x", "scripts": {"start": "node a.js"}}', "a.js": ""},
        {
            "go.mod": "module example.org/x\n\ngo 1.19\n",
            "main.go": "package main\nfunc main() {}\n",
        },
    ],
    ids=["python", "node", "go"],
)
def test_languages_without_a_dockerfile(rig: Rig, files: dict[str, str]) -> None:
    result, lines = rig.result(files, application_id=32, device_type="generic-amd64")
    assert result.status is ReleaseStatus.SUCCESS, [result.error, *lines]

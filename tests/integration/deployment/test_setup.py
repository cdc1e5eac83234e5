"""Set-up on machines where it cannot work: one clear line, and nothing is changed."""

import subprocess
from pathlib import Path

import docker
import pytest

from gantry.deployment.images import build_image
from gantry.deployment.paths import repository_root
from gantry.deployment.progress import line_printer

SMALL = "cp -r /repository/scripts . && cp /repository/*.t* . && exec scripts/setup.sh"


@pytest.fixture(scope="module")
def image() -> str:
    client = docker.from_env(timeout=600)
    try:
        return build_image("raspios", line_printer(), client=client).tag
    finally:
        client.close()


def set_up(image: str, *options: str, script: str = "scripts/setup.sh") -> tuple[int, str]:
    """Exit status and what was said, in a fresh Debian."""
    mount = f"{repository_root()}:/repository:ro"
    command = ["docker", "run", "--rm", "-v", mount, "-w", "/repository", *options, image]
    result = subprocess.run(
        [*command, "sh", "-c", script], capture_output=True, text=True, timeout=60
    )
    return result.returncode, result.stdout + result.stderr


def test_not_debian(image: str, tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text("ID=fedora\n")
    assert set_up(image, "-v", f"{release}:/etc/os-release:ro") == (
        1,
        "error: this is not a Debian-like system: Gantry is set up on Debian 12 or 13\n",
    )


def test_neither_root_nor_sudo(image: str) -> None:
    assert set_up(image, "-u", "nobody") == (
        1,
        "error: neither root nor sudo: run as root, or install sudo and add nobody to its group\n",
    )


def test_no_room(image: str) -> None:
    options = ("--tmpfs", "/small:size=2g,exec", "-w", "/small")
    assert set_up(image, *options, script=SMALL) == (
        1,
        "error: only 2 GB free in /small: images and builds need 10 GB\n",
    )


def test_no_network(image: str) -> None:
    assert set_up(image, "--network", "none") == (
        1,
        "error: no network: neither deb.debian.org nor pypi.org can be reached\n",
    )

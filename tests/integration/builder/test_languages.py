"""Trees without a Dockerfile: built, pushed, pulled by their digest, run, and asked.

The bases that they are built on are made in the test, from the Debian archive. Those for this
machine's own architecture are kept for the next run: the builder takes them if it would make the
same, which it knows by their label.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from gantry.contracts.build import ReleaseStatus
from gantry.contracts.device_types import Architecture
from tests.integration.builder import trees

Rig = Any
# A processor that has nothing that a board of the kind lacks: the first Raspberry Pi's.
QEMU = {Architecture.RPI: "--env QEMU_CPU=arm1176"}
BOARDS = {
    Architecture.AMD64: "generic-amd64",
    Architecture.AARCH64: "raspberrypi3-64",
    Architecture.ARMV7HF: "raspberrypi3",
    Architecture.RPI: "raspberry-pi",
}


BASES = ("python:3.11", "node:18", "golang:1.19")
LABEL = '{{index .Config.Labels "gantry.recipe"}}'


@pytest.fixture(scope="module")
def kept_bases(rig: Rig) -> Iterator[None]:
    # One that cannot be read is made anew, as if it were not there.
    load = f"zstdcat $f | {rig.docker_command} load || rm -f $f"
    rig.sh(f"for f in /kept/*.tar.zst; do [ ! -e $f ] || {{ {load}; }}; done")
    yield
    for base in BASES:
        image = f"gantry/amd64-{base}"
        if not rig.docker(f"images --quiet {image}"):
            continue
        label = rig.docker(f"inspect --format '{LABEL}' {image}")
        name = base.partition(":")[0]
        path = f"/kept/{name}-{label[:16]}.tar.zst"
        save = f"{rig.docker_command} save {image} | zstd -q -3 -o {path}.new"
        rig.sh(f"[ -e {path} ] || {{ rm -f /kept/{name}-*; {save} && mv {path}.new {path}; }}")


def push_and_ask(rig: Rig, kind: str, arch: Architecture) -> tuple[str, list[str]]:
    """What the application answers, and what the push said."""
    application_id = 40 + list(trees.TREES).index(kind)
    result, lines = rig.result(
        trees.TREES[kind], application_id=application_id, device_type=BOARDS[arch]
    )
    assert result.status is ReleaseStatus.SUCCESS, [result.error, *lines]
    image = rig.pulled(result, application_id)
    options = f"--platform {arch.platform} {QEMU.get(arch, '')}"
    with rig.running(image, options) as container:
        return container.answer(trees.PORT), lines


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("kept_bases")
@pytest.mark.parametrize("kind", ["requirements", "project", "node", "go"])
def test_a_tree_without_a_dockerfile_answers(rig: Rig, kind: str) -> None:
    answer, lines = push_and_ask(rig, kind, Architecture.AMD64)
    print(f"{kind}: {answer}")
    assert answer == trees.answers(Architecture.AMD64)[kind]
    assert any("building from" in each for each in lines)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", trees.TREES)
@pytest.mark.parametrize("arch", [Architecture.AARCH64, Architecture.ARMV7HF, Architecture.RPI])
def test_it_answers_on_a_raspberry_pi(rig: Rig, kind: str, arch: Architecture) -> None:
    """Makes the language's base under emulation: minutes."""
    answer, _ = push_and_ask(rig, kind, arch)
    print(f"{kind} for {arch}: {answer}")
    assert answer == trees.answers(arch)[kind]

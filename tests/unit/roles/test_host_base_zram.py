"""Program zram against a sysfs of the test's own.

mkswap, swapon and the like are stand-ins: the real ones would change the swap of the machine that
runs the tests.
"""

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles/host_base/files/zram"
TOOLS = ("mkswap", "swapon", "swapoff", "modprobe", "dphys-swapfile")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A Pi with 1 GiB of RAM and an unused zram0."""
    for tool in TOOLS:
        write_tool(tmp_path, tool, f'echo "{tool} $*" >> {tmp_path}/asked')
    write_tool(tmp_path, "systemd-detect-virt", "exit 1")
    device = tmp_path / "sys/block/zram0"
    device.mkdir(parents=True)
    (device / "disksize").write_text("0\n")
    (device / "comp_algorithm").write_text("lzo [lzo-rle] lz4 zstd\n")
    control = tmp_path / "sys/class/zram-control"
    control.mkdir(parents=True)
    (control / "hot_add").write_text("3\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/swaps").write_text("Filename\tType\tSize\tUsed\tPriority\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal:        1048576 kB\nMemFree: 1 kB\n")
    return tmp_path


def write_tool(folder: Path, name: str, script: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    path = folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run(machine: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    told = {
        "GANTRY_SYS": str(machine / "sys"),
        "GANTRY_PROC": str(machine / "proc"),
        "GANTRY_RUN": str(machine / "run"),
        "PATH": f"{machine / 'bin'}:{os.environ['PATH']}",
    }
    command = ["sh", str(PROGRAM), *arguments]
    return subprocess.run(command, env=told, capture_output=True, text=True, check=False)


def asked(machine: Path) -> list[str]:
    return (machine / "asked").read_text().splitlines()


def test_half_of_the_memory_before_other_swap(machine: Path) -> None:
    done = run(machine, "start", "50", "lz4")
    assert (done.returncode, done.stdout) == (0, "512 MiB of compressed swap (lz4)\n")
    device = machine / "sys/block/zram0"
    assert (device / "disksize").read_text() == "524288K\n"
    assert (device / "comp_algorithm").read_text() == "lz4\n"
    assert asked(machine) == [
        "dphys-swapfile swapoff",
        "modprobe zram",
        "mkswap --label gantry-zram /dev/zram0",
        "swapon --priority 100 /dev/zram0",
    ]
    stopped = run(machine, "stop")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert asked(machine)[-1] == "swapoff /dev/zram0"
    assert (device / "reset").read_text() == "1\n"
    assert run(machine, "stop").returncode == 0


def test_four_gigabytes_at_most(machine: Path) -> None:
    (machine / "proc/meminfo").write_text("MemTotal: 16777216 kB\n")
    assert run(machine, "start", "50", "lz4").stdout.startswith("4096 MiB")


def test_a_device_that_somebody_uses_is_left_alone(machine: Path) -> None:
    (machine / "sys/block/zram0/disksize").write_text("1048576\n")
    device = machine / "sys/block/zram3"
    device.mkdir()
    (device / "comp_algorithm").write_text("lz4\n")
    assert run(machine, "start", "50", "lz4").returncode == 0
    assert (device / "disksize").read_text() == "524288K\n"
    assert (machine / "sys/block/zram0/disksize").read_text() == "1048576\n"
    assert run(machine, "stop").returncode == 0
    assert (machine / "sys/class/zram-control/hot_remove").read_text() == "3\n"


def test_swap_that_is_there_already(machine: Path) -> None:
    (machine / "proc/swaps").write_text("Filename\n/dev/zram0   partition 1 0 100\n")
    done = run(machine, "start", "50", "lz4")
    assert (done.returncode, done.stdout) == (0, "there is compressed swap already\n")
    assert (machine / "sys/block/zram0/disksize").read_text() == "0\n"


def test_an_algorithm_that_the_kernel_lacks(machine: Path) -> None:
    done = run(machine, "start", "50", "snappy")
    assert done.returncode == 1
    assert done.stderr == ("zram: no algorithm snappy: this kernel has lzo [lzo-rle] lz4 zstd\n")
    assert (machine / "sys/block/zram0/disksize").read_text() == "0\n"


def test_a_kernel_without_it(machine: Path) -> None:
    write_tool(machine, "modprobe", "exit 1")
    (machine / "sys/class/zram-control/hot_add").unlink()
    (machine / "sys/class/zram-control").rmdir()
    done = run(machine, "start", "50", "lz4")
    assert (done.returncode, done.stderr) == (1, "zram: this kernel has no zram\n")


def test_a_container_has_none(machine: Path) -> None:
    write_tool(machine, "systemd-detect-virt", "exit 0")
    done = run(machine, "start", "50", "lz4")
    assert done.returncode == 0
    assert "would be its host's" in done.stdout
    assert not (machine / "asked").exists()


def test_wrong_use_is_said(machine: Path) -> None:
    done = run(machine, "restart")
    assert (done.returncode, done.stderr) == (1, "zram: use start PERCENT ALGORITHM, or stop\n")

"""A whole emulated arm64 machine: Debian's own kernel, systemd, Docker, on four loopback ports."""

import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fleet_under_test import wait_for
from tests.ports import free_port
from tests.vm.disk import Disk

# An address of its own, so that the device's port 22222 can be had on it.
ADDRESS = "127.0.0.5"
DEVICE_PORT = 22222
# What the machine calls this host (qemu's user network).
HOST_ADDRESS = "10.0.2.2"
# As a Raspberry Pi 3 has it.
MEMORY_MB = 1024
BOOT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Machine:
    """`folder` holds the console's output and the ssh configuration; the disk is thrown away.

    `key` is who may log in: as `pi`, and as root once the machine is a device.
    """

    process: subprocess.Popen[bytes]
    key: Path
    folder: Path

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    def ssh(
        self, command: str, *, user: str = "root", check: bool = True, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there: as `pi` on the port of a plain system, as root on a device's."""
        port = [f"-oPort={DEVICE_PORT}"] if user == "root" else []
        words = ["ssh", "-F", str(self.ssh_config), *port, f"{user}@{ADDRESS}", command]
        done = subprocess.run(
            words, input=stdin, text=True, capture_output=True, timeout=900, check=False
        )
        if check:
            assert done.returncode == 0, f"{command} → {done.returncode}\n{done.stderr}"
        return done

    def library(self, package: Path, parts: Sequence[str]) -> None:
        """Copy parts of a Python package into the home of `pi`."""
        paths = [f"{package.name}/{each}" for each in parts]
        packed = ["tar", "-c", "--exclude=__pycache__", "-C", str(package.parent), *paths]
        words = ["ssh", "-F", str(self.ssh_config), f"pi@{ADDRESS}", "tar -x"]
        with subprocess.Popen(packed, stdout=subprocess.PIPE) as source:
            subprocess.run(words, stdin=source.stdout, timeout=300, check=True)

    def wait_for_login(self, user: str) -> str:
        """Wait until somebody may come in; the id of this boot."""

        def probe() -> str:
            assert self.process.poll() is None, "qemu ended"
            done = self.ssh("cat /proc/sys/kernel/random/boot_id", user=user, check=False)
            return done.stdout.strip()

        return wait_for(f"a login ({self.console})", probe, BOOT_SECONDS, every=3)

    def reboot(self) -> None:
        """Restart it and wait until it has booted."""
        before = self.wait_for_login("root")
        # The connection ends before the answer comes.
        self.ssh("systemctl reboot", check=False)
        deadline = time.monotonic() + BOOT_SECONDS
        while self.wait_for_login("root") == before:
            assert time.monotonic() < deadline, "it does not reboot"
            time.sleep(3)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)


def start(disk: Disk, folder: Path) -> Machine:
    """Switch the machine on. What it writes to its disk is gone when it is stopped."""
    port = free_port()
    forwards = f"hostfwd=tcp:{ADDRESS}:{port}-:22,hostfwd=tcp:{ADDRESS}:{DEVICE_PORT}-:22222"
    words = [
        "qemu-system-aarch64",
        *("-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", str(MEMORY_MB)),
        *("-display", "none", "-monitor", "none", "-serial", f"file:{folder / 'console.log'}"),
        *("-kernel", str(disk.kernel), "-initrd", str(disk.initrd)),
        *("-append", "root=/dev/vda rw console=ttyAMA0"),
        *("-drive", f"if=none,id=disk,format=raw,snapshot=on,file={disk.image}"),
        *("-device", "virtio-blk-device,drive=disk", "-device", "virtio-rng-device"),
        *("-netdev", f"user,id=net,{forwards}", "-device", "virtio-net-device,netdev=net"),
    ]
    (folder / "ssh_config").write_text(
        f"Host {ADDRESS}\n"
        f"  Port {port}\n"
        f"  IdentityFile {disk.key}\n"
        "  IdentitiesOnly yes\n"
        "  BatchMode yes\n"
        "  ConnectTimeout 60\n"
        "  ServerAliveInterval 30\n"
        "  ServerAliveCountMax 20\n"
        # The device makes keys of its own when it is provisioned.
        "  StrictHostKeyChecking no\n"
        "  UserKnownHostsFile /dev/null\n"
        "  LogLevel ERROR\n"
    )
    with (folder / "qemu.log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    return Machine(process, disk.key, folder)

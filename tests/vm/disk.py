"""The disk of a whole arm64 machine: Debian 13 as a Raspberry Pi OS is laid out, made once.

mmdebstrap makes the system from the signed archive, mke2fs the file system; both run without a
mount. Kept in the cache by the hash of all that it is made of, with its kernel and the one key
that its user `pi` lets in.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gantry.builder.bootstrap import in_own_group
from gantry.builder.mirror import MIRROR, SECURITY_MIRROR
from gantry.deployment.paths import cache_home
from tests.fleet_under_test import ROOT

SUITE = "trixie"
SIZE = "12G"
BOOT_FILES = ROOT / "images" / "raspberry-pi-os" / "rootfs" / "boot" / "firmware"
PACKAGES = [
    *("linux-image-arm64", "initramfs-tools", "systemd-sysv", "udev", "dbus"),
    *("openssh-server", "sudo", "python3", "python3-apt", "ca-certificates", "less", "netbase"),
    *("procps", "iputils-ping", "kmod", "cron", "logrotate"),
    # Of a Raspberry Pi OS, and what the roles install: apt is slow on an emulated processor.
    *(ROOT / "images" / "raspberry-pi-os" / "packages.txt").read_text().split(),
]
# As the imager leaves a card: a user with sudo and a key, DHCP, a console on the serial line.
HOOK = r"""
set -eu
root=$1
chroot "$root" useradd --create-home --shell /bin/bash --groups adm,sudo,video pi
echo 'pi ALL=(ALL) NOPASSWD: ALL' > "$root/etc/sudoers.d/010_pi-nopasswd"
chmod 0440 "$root/etc/sudoers.d/010_pi-nopasswd"
mkdir -m 0700 "$root/home/pi/.ssh"
cp "$KEY.pub" "$root/home/pi/.ssh/authorized_keys"
chroot "$root" chown -R pi:pi /home/pi/.ssh
mkdir -p "$root/boot/firmware"
cp "$BOOT_FILES"/* "$root/boot/firmware"
echo raspberrypi > "$root/etc/hostname"
printf '127.0.0.1 localhost\n127.0.1.1 raspberrypi\n' > "$root/etc/hosts"
echo '/dev/vda / ext4 defaults,noatime 0 1' > "$root/etc/fstab"
# A package that is not installed on a fresh Pi does not run there.
for unit in docker.service docker.socket containerd.service chrony.service dnsmasq.service \
    nftables.service openvpn.service redsocks.service; do
    systemctl --root="$root" disable --quiet "$unit" 2>/dev/null || true
done
: > "$root/etc/machine-id"
rm -f "$root/usr/sbin/policy-rc.d"
cp --dereference "$root/vmlinuz" "$OUT/vmlinuz"
cp --dereference "$root/initrd.img" "$OUT/initrd.img"
chmod 0644 "$OUT/vmlinuz" "$OUT/initrd.img"
# Without what is mounted in it (/proc, /sys, /dev).
mkdir "$OUT/root"
mount --bind "$root" "$OUT/root"
mke2fs -q -t ext4 -L rootfs -d "$OUT/root" "$OUT/disk.img" "$SIZE"
umount "$OUT/root"
rmdir "$OUT/root"
"""


@dataclass(frozen=True, slots=True)
class Disk:
    """A folder of the cache: disk.img (ext4, sparse), vmlinuz, initrd.img, key, key.pub."""

    folder: Path

    @property
    def image(self) -> Path:
        return self.folder / "disk.img"

    @property
    def kernel(self) -> Path:
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd.img"

    @property
    def key(self) -> Path:
        return self.folder / "key"


def make_disk() -> Disk:
    """The disk, from the cache or made now (about ten minutes, under emulation).

    Raises:
        CalledProcessError: mmdebstrap failed; its output is on this process's.
    """
    boot = [each.read_text() for each in sorted(BOOT_FILES.iterdir())]
    recipe = "\n".join([SUITE, SIZE, *PACKAGES, HOOK, *boot])
    folder = cache_home() / "vm" / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    if (folder / "disk.img").exists():
        return Disk(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    for old in folder.parent.iterdir():
        shutil.rmtree(old)
    work = Path(tempfile.mkdtemp(prefix="new-", dir=folder.parent))
    # mmdebstrap's user name space must reach it.
    work.chmod(0o755)
    key = work / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    names = {"OUT": work, "KEY": key, "BOOT_FILES": BOOT_FILES, "SIZE": SIZE}
    settings = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in names.items())
    words = [
        "mmdebstrap",
        "--variant=minbase",
        f"--mode={'root' if os.geteuid() == 0 else 'unshare'}",
        "--architectures=arm64",
        "--aptopt=Acquire::Languages { none; }",
        "--aptopt=Acquire::Retries 3",
        "--aptopt=Apt::Install-Recommends false",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        # The roles find the packages there, and ask the archive only for one that is not.
        "--skip=cleanup/apt/lists",
        f"--include={','.join(dict.fromkeys(PACKAGES))}",
        f'--customize-hook={settings} sh -c {shlex.quote(HOOK)} hook "$1"',
        "--format=null",
        SUITE,
        "/dev/null",
        f"deb {MIRROR} {SUITE} main",
        f"deb {MIRROR} {SUITE}-updates main",
        f"deb {SECURITY_MIRROR} {SUITE}-security main",
    ]
    try:
        subprocess.run(in_own_group(words), check=True)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Disk(folder)

"""What is where, what outlives a boot, and what a factory reset leaves, also after a power loss."""

import json
import subprocess
import time

import pytest

ALL = ["storage-folders", "storage-partitions", "storage-read-only"]
THING = "/var/lib/thing/deep/file"
KEPT = {
    "/etc/NetworkManager/system-connections",
    "/var/lib/systemd/random-seed",
    "/var/lib/thing",
}
# What the test's engine mounts in every container.
CONTAINERS = {"/etc/hostname", "/etc/hosts", "/etc/resolv.conf"}
LAYERS = {"/etc", "/home", "/root", "/var"}
# What the system's image has.
FRESH = [
    "proc /proc proc defaults 0 0",
    "PARTUUID=4e639091-01 /boot/firmware vfat defaults 0 2",
    "PARTUUID=4e639091-02 / ext4 defaults,noatime 0 1",
]
CONFIG = {"uuid": "0" * 32, "deviceApiKey": "secret", "hostname": "robot", "unknown": [1]}


def mounts(host):
    """Mount points of the device's own, with what is mounted there."""
    shown = json.loads(host.check_output("findmnt --json --list --output TARGET,SOURCE,FSTYPE"))
    ours = ("/mnt", "/etc", "/var", "/home", "/root")
    return {
        each["target"]: (each["source"], each["fstype"])
        for each in shown["filesystems"]
        if each["target"].startswith(ours) and each["target"] not in CONTAINERS
    }


def kept_from(host, path):
    """Whether a path is the state partition's copy: one and the same file."""
    return host.run("test %s -ef %s", path, f"/mnt/state/root-overlay{path}").rc == 0


@pytest.mark.parametrize("name", ALL)
def test_mounts_are_exactly_these(on, name):
    places = {"/mnt/boot"}
    if name != "storage-folders":
        places |= {"/mnt/state", "/mnt/data"}
    assert set(mounts(on(name))) == places | KEPT


@pytest.mark.parametrize("name", ALL)
def test_what_persists_is_on_the_state_partition_as_it_was(on, name):
    host = on(name)
    for path in KEPT:
        assert kept_from(host, path), path
    thing = host.file(f"/mnt/state/root-overlay{THING}")
    assert (thing.user, thing.group, thing.mode) == ("daemon", "adm", 0o640)
    assert thing.content_string == "from-the-root\n"
    assert host.file("/mnt/state/root-overlay/var/lib/thing").mode == 0o750
    assert host.file("/var/lib/thing/link").linked_to == "/var/lib/thing/deep/file"
    machine_id = host.file("/etc/machine-id").content_string
    assert host.file("/mnt/state/root-overlay/etc/machine-id").content_string == machine_id
    assert not host.file("/var/lib/nobody-has-it").exists
    assert not host.file("/mnt/state/.unfinished").exists
    assert host.check_output("systemctl --failed --no-legend") == ""


def test_partitions_are_found_by_their_labels(on):
    host = on("storage-partitions")
    state, data = host.check_output("cat /var/tmp/disks/devices").split()
    assert mounts(host)["/mnt/state"] == (state, "ext4")
    assert mounts(host)["/mnt/data"] == (data, "ext4")
    options = set(host.mount_point("/mnt/state").options)
    assert {"rw", "nosuid", "nodev", "noatime"} <= options


@pytest.mark.parametrize("name", ALL)
def test_only_root_reads_the_boot_partition(on, name):
    host = on(name)
    host.check_output("echo '{}' > /mnt/boot/config.json && chmod 0644 /mnt/boot/config.json")
    assert host.file("/boot/firmware/config.json").exists
    for folder in ("/mnt/boot", "/boot/firmware"):
        assert host.file(folder).mode == 0o700
        assert host.run("runuser -u pi -- cat %s/config.json", folder).rc == 1
    host.check_output("rm /mnt/boot/config.json")


def test_changes_of_the_device_outlive_a_boot(on, reboot):
    host = on("storage-folders")
    host.check_output("echo from-the-device > %s", THING)
    before = host.file("/etc/machine-id").content_string
    reboot(host)
    assert set(mounts(host)) == {"/mnt/boot"} | KEPT
    assert host.file(THING).content_string == "from-the-device\n"
    assert host.file("/etc/machine-id").content_string == before
    assert host.check_output("systemctl is-system-running") == "running"


def test_a_read_only_root_from_the_next_boot_on(on, reboot):
    host = on("storage-read-only")
    assert host.run("touch /usr/before && rm /usr/before").rc == 0
    host.check_output("sync")
    reboot(host)
    assert "Read-only file system" in host.run("touch /usr/after").stderr
    found = mounts(host)
    layers = {path for path, (_, kind) in found.items() if kind == "overlay" and path in LAYERS}
    assert layers == LAYERS
    assert set(found) >= KEPT
    assert host.check_output("systemctl --failed --no-legend") == ""


def test_what_is_written_elsewhere_is_gone_after_a_boot(on, reboot):
    host = on("storage-read-only")
    host.check_output("echo gone | tee /etc/gone /var/lib/gone /root/gone")
    host.check_output("echo kept > %s", THING)
    reboot(host)
    for path in ("/etc/gone", "/var/lib/gone", "/root/gone"):
        assert not host.file(path).exists, path
    assert host.file(THING).content_string == "kept\n"


def test_a_read_only_root_is_writable_for_one_boot(on, reboot):
    host = on("storage-read-only")
    host.check_output("gantry-state writable")
    reboot(host)
    host.check_output("touch /usr/maintained /etc/maintained")
    assert not {"/etc", "/var"} & set(mounts(host))
    reboot(host)
    assert "Read-only file system" in host.run("touch /usr/after").stderr
    assert host.file("/usr/maintained").exists
    assert host.file("/etc/maintained").exists


def fill(host, files=1):
    """A device that has lived, with 40 folders of its engine's and files in each."""
    host.check_output("printf %%s %s > /mnt/boot/config.json", json.dumps(CONFIG))
    host.check_output(
        "mkdir -p /mnt/data/docker /mnt/state/gantry/ssh && cd /mnt/data/docker && "
        f"for n in $(seq 40); do mkdir $n; (cd $n && seq {files} | xargs touch); done && "
        "echo secret > /mnt/state/gantry/config.last-good.json && "
        "echo key > /mnt/state/gantry/ssh/ssh_host_ed25519_key"
    )
    host.check_output("echo from-the-device > %s", THING)


def is_reset(host):
    assert host.file("/mnt/data").listdir() == []
    assert not host.file("/mnt/boot/factory-reset").exists
    # What persists is the root's again.
    assert host.file(THING).content_string == "from-the-root\n"
    for path in KEPT:
        assert kept_from(host, path), path
    assert host.check_output("systemctl is-system-running") == "running"


def test_a_factory_reset_empties_and_keeps_the_identity(on, reboot):
    host = on("storage-folders")
    fill(host)
    machine_id = host.file("/etc/machine-id").content_string
    host.check_output("gantry-factory-reset --at-boot")
    assert host.file(THING).content_string == "from-the-device\n"
    reboot(host)
    is_reset(host)
    assert json.loads(host.file("/mnt/boot/config.json").content_string) == CONFIG
    assert host.file("/mnt/state/gantry/ssh/ssh_host_ed25519_key").content_string == "key\n"
    assert host.file("/etc/machine-id").content_string == machine_id


def test_a_reset_that_a_power_loss_ends_goes_on_at_the_next_boot(on, reboot):
    host = on("storage-folders")
    # More than a moment removes.
    fill(host, files=1500)
    host.check_output("touch /mnt/boot/factory-reset")
    container = host.ansible.get_variables()["ansible_host"]
    # The power is lost once some of it is gone.
    subprocess.run(["docker", "restart", "--time", "0", container], check=True, capture_output=True)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        left = host.run("ls /mnt/data/docker | wc -l").stdout.strip()
        if left.isdigit() and int(left) < 40:
            break
        time.sleep(0.02)
    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    subprocess.run(["docker", "start", container], check=True, capture_output=True)
    reboot(host)
    is_reset(host)


def test_a_reset_that_forgets(on, reboot):
    host = on("storage-folders")
    fill(host)
    host.check_output("gantry-factory-reset --at-boot --forget-identity")
    reboot(host)
    is_reset(host)
    config = json.loads(host.file("/mnt/boot/config.json").content_string)
    assert config == {"hostname": "robot", "unknown": [1]}
    assert not host.file("/mnt/state/gantry/ssh/ssh_host_ed25519_key").exists


def test_a_reset_is_not_begun_by_hand_on_a_running_device(on):
    host = on("storage-folders")
    refused = host.run("systemctl start gantry-factory-reset")
    assert refused.rc != 0
    assert "refused" in refused.stderr
    assert host.run("gantry-factory-reset < /dev/null").rc == 1
    assert not host.file("/mnt/boot/factory-reset").exists


def fstab(host):
    """Its lines, without comments."""
    lines = host.file("/etc/fstab").content_string.splitlines()
    return [line for line in lines if not line.startswith("#")]


def test_a_volume_is_left_as_it_is(on):
    host = on("storage-volume")
    assert fstab(host) == FRESH
    assert set(mounts(host)) == {"/mnt/boot"} | KEPT
    assert host.check_output("systemctl is-system-running") == "running"


def test_an_image_has_all_for_the_boot_and_keeps_nothing_yet(on):
    host = on("storage-image")
    bind = "/boot/firmware /mnt/boot none bind,nofail,x-systemd.before=local-fs.target 0 0"
    proc, firmware, root = FRESH
    closed = firmware.replace("defaults", "defaults,fmask=0177,dmask=0077")
    assert fstab(host) == [proc, closed, root, bind]
    units = "systemctl is-enabled gantry-state gantry-factory-reset"
    assert host.check_output(units).split() == ["enabled", "enabled"]
    assert host.file("/mnt/state").listdir() == []


def test_what_was_refused_changed_nothing(on):
    host = on("storage-refused")
    assert "gantry" not in host.file("/etc/fstab").content_string
    assert not host.file("/mnt/state").exists
    assert host.file("/mnt/data").listdir() == ["docker"]
    installed = (
        "/usr/local/lib/gantry/storage.json",
        "/usr/local/sbin/gantry-state",
        "/etc/systemd/system/gantry-state.service",
    )
    assert [each for each in installed if host.file(each).exists] == []

"""What provision.yml makes of a Raspberry Pi OS: a production device, all roles together.

The same for the native, the arm64 and the armhf system; the emulated ones run neither the engine
nor the firewall nor NetworkManager and its resolver, for which qemu-user lacks system calls.
"""

import json
import os
import platform
import subprocess
import time
from pathlib import Path

import pytest

ARCHITECTURES = {
    "amd64": ("amd64", "debian"),
    "aarch64": ("arm64", "debian"),
    "armv7hf": ("armhf", "raspbian"),
}
UNITS = {
    "gantry-config.path": ("enabled", "active"),
    "gantry-config.service": ("enabled", "inactive"),
    "gantry-dns.service": ("enabled", "active"),
    "gantry-factory-reset.service": ("enabled", "inactive"),
    "gantry-firewall.service": ("enabled", "active"),
    "gantry-kernel.service": ("enabled", "inactive"),
    "gantry-proxy.service": ("enabled", "inactive"),
    "gantry-splash.service": ("enabled", "inactive"),
    "gantry-ssh.service": ("enabled", "active"),
    "gantry-state.service": ("enabled", "active"),
    "gantry-supervisor.service": ("enabled", "activating"),
    "gantry-zram.service": ("enabled", "active"),
    # Started by others, or by the variant that has them.
    "gantry-alias.service": ("disabled", "inactive"),
    "gantry-engine-mounts.service": ("static", "active"),
    "gantry-engine-watchdog.service": ("static", "active"),
    "gantry-config-missed.service": ("static", "inactive"),
    "gantry-host.socket": ("static", "active"),
    "gantry-vpn.service": ("static", "inactive"),
}
TEMPLATES = {"gantry-bundle@.service", "gantry-config@.path", "gantry-host@.service"}
NATIVE_UNITS = {
    "gantry-dns.service",
    "gantry-engine-mounts.service",
    "gantry-engine-watchdog.service",
    "gantry-firewall.service",
    "gantry-host.socket",
    "gantry-supervisor.service",
}
RESOLVERS = ("127.0.0.2", "10.114.102.1")
MODES = {
    "/etc/gantry": 0o755,
    "/etc/gantry/containerd.toml": 0o644,
    "/etc/gantry/device.json": 0o644,
    "/etc/gantry/dnsmasq.conf": 0o644,
    "/etc/gantry/firewall.nft": 0o644,
    "/etc/gantry/kernel.conf": 0o644,
    "/etc/gantry/supervisor.json": 0o600,
    "/etc/gantry/vpn-client.conf": 0o644,
}
NET_BIND_SERVICE = 1 << 10


@pytest.fixture
def variables(host):
    return host.ansible.get_variables()


@pytest.fixture
def native(variables):
    """Whether the engine, netfilter and NetworkManager run there."""
    return variables["container_arch"] == (
        "aarch64" if platform.machine() == "aarch64" else "amd64"
    )


def test_it_is_the_system_that_it_says(host, variables):
    packages, name = ARCHITECTURES[variables["container_arch"]]
    assert host.check_output("dpkg --print-architecture") == packages
    assert f"\nID={name}\n" in host.file("/etc/os-release").content_string
    device = json.loads(host.file("/etc/gantry/device.json").content_string)
    assert device["variant"] == "production"


def test_nothing_failed(host):
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""


def test_units_are_exactly_these(host, native):
    listed = host.check_output("systemctl list-unit-files 'gantry*' --no-legend --plain")
    names = {line.split()[0] for line in listed.splitlines()}
    templates = {name for name in names if "@." in name}
    assert templates == TEMPLATES
    idle = () if native else NATIVE_UNITS
    wanted = {
        name: (enabled, "inactive" if name in idle else active)
        for name, (enabled, active) in UNITS.items()
    }
    # The supervisor has no fleet to come from: it ends, and is tried again.
    end = time.monotonic() + 60
    while (found := states(host, names - templates)) != wanted and time.monotonic() < end:
        time.sleep(0.5)
    assert found == wanted


def states(host, names):
    """Of each unit, whether boots start it, and whether it runs."""
    # One command for all: each program costs most of a second where a processor is emulated.
    properties = "--property=Id,UnitFileState,ActiveState"
    shown = host.check_output(f"systemctl show {properties} {' '.join(sorted(names))}")
    blocks = [dict(line.split("=") for line in each.splitlines()) for each in shown.split("\n\n")]
    return {each["Id"]: (each["UnitFileState"], each["ActiveState"]) for each in blocks}


def test_folders_of_the_boot_partition_are_watched(host):
    command = "systemctl list-units 'gantry-config@*' --no-legend --plain"
    found = {line.split()[0] for line in host.check_output(command).splitlines()}
    folders = ("splash", "system-connections", "system-proxy")
    assert found == {f"gantry-config@{folder}.path" for folder in folders}


def test_it_listens_on_exactly_these(host, native, listening):
    resolvers = {(protocol, f"{ip}:53") for protocol in ("tcp", "udp") for ip in RESOLVERS}
    assert listening(host) == (resolvers if native else set()) | {
        ("tcp", "0.0.0.0:22222"),
        ("tcp", "*:22222"),
        ("udp", "0.0.0.0:5353"),
    }


def test_the_network_reaches_exactly_ssh(host, native):
    rules = host.file("/etc/gantry/firewall.nft").content_string
    ports = [line.strip() for line in rules.splitlines() if "elements =" in line]
    assert ports == ["elements = { 22222 }", "elements = { 5353 }"]
    if native:
        loaded = json.loads(host.check_output("nft --json list table inet gantry"))["nftables"]
        sets = {each["set"]["name"]: each["set"]["elem"] for each in loaded if "set" in each}
        assert sets == {"open_tcp": [22222], "open_udp": [5353]}
        chains = [each["chain"] for each in loaded if "chain" in each]
        begun = {each["hook"]: each["policy"] for each in chains if "hook" in each}
        assert begun == {"input": "drop", "forward": "accept"}


def test_mounts_are_exactly_these(host, native):
    shown = host.check_output("findmnt --raw --noheadings --output TARGET")
    # What the container's own start has made.
    own = ("/proc", "/sys", "/dev", "/run/lock", "/tmp", "/run/user")
    found = {path for path in shown.splitlines() if path not in ("/", "/run", *own)}
    found = {path for path in found if not path.startswith(tuple(f"{each}/" for each in own))}
    expected = {
        "/mnt/boot",
        "/etc/NetworkManager/system-connections",
        "/var/lib/NetworkManager",
        "/var/lib/chrony",
        "/var/lib/systemd/random-seed",
        "/var/lib/systemd/timers",
    }
    if native:
        expected |= {"/mnt/data", "/run/gantry/engine", "/run/gantry/engine/mounts"}
    assert found == expected


def test_modes_are_exactly_these(host):
    listed = host.check_output("find /etc/gantry -printf '%m %u %g %p\\n'").splitlines()
    found = {path: (mode, user, group) for mode, user, group, path in map(str.split, listed)}
    assert found == {path: (f"{mode:o}", "root", "root") for path, mode in MODES.items()}
    secrets = host.check_output(
        "stat --format '%a %U %n' /mnt/boot /mnt/boot/config.json /mnt/state/gantry "
        "/mnt/state/gantry/ssh /mnt/state/gantry/ssh/ssh_host_ed25519_key"
    )
    assert secrets.splitlines() == [
        "700 root /mnt/boot",
        "600 root /mnt/boot/config.json",
        "700 root /mnt/state/gantry",
        "700 root /mnt/state/gantry/ssh",
        "600 root /mnt/state/gantry/ssh/ssh_host_ed25519_key",
    ]


def test_the_resolver_has_one_capability_and_is_not_root(host, native):
    unit = host.file("/etc/systemd/system/gantry-dns.service").content_string
    assert "\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE\nNoNewPrivileges=true\n" in unit
    if not native:
        return
    pid = host.check_output("systemctl show gantry-dns --property=MainPID --value")
    status = host.file(f"/proc/{pid}/status").content_string
    found = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if ":\t" in line}
    assert int(found["CapEff"], 16) == int(found["CapBnd"], 16) == NET_BIND_SERVICE
    assert int(found["Uid"]) == host.user("dnsmasq").uid != 0


def test_config_json_is_the_fleets_and_keeps_what_is_unknown(host):
    config = json.loads(host.file("/mnt/boot/config.json").content_string)
    given = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"], "config.json")
    assert config == json.loads(given.read_text())
    assert config["futureKey"] == {"kept": True}


def test_the_engine_keeps_its_data_on_the_data_partition(host, native):
    options = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert (options["data-root"], options["storage-driver"]) == ("/mnt/data/docker", "overlay2")
    if native:
        shown = host.check_output("docker info --format '{{.DockerRootDir}} {{.LoggingDriver}}'")
        assert shown == "/mnt/data/docker journald"


def test_the_supervisor_is_asked_of_the_fleets_registry(host, native, variables):
    settings = json.loads(host.file("/etc/gantry/supervisor.json").content_string)
    assert settings["architecture"] == variables["container_arch"]
    if not native:
        return
    said = host.check_output("journalctl --unit gantry-supervisor --output cat")
    image = f"gantry/{variables['container_arch']}-supervisor:"
    assert f"pulling registry.molecule.gantry.internal:8443/{image}" in said


def test_a_saved_hostname_is_the_hosts_at_once(host, saved):
    saved(hostname="calm-crane")
    wait_until(lambda: host.check_output("hostname") == "calm-crane")
    # While the first of them is being applied, the second comes.
    saved(hostname="quiet-robot")
    saved(hostname="quiet-crane")
    wait_until(lambda: host.check_output("hostname") == "quiet-crane")
    assert host.file("/etc/hostname").content_string == "quiet-crane\n"


def test_root_comes_in_by_a_key_of_config_json_alone(host, saved, tmp_path):
    shown = json.loads(host.check_output("ip -4 -json address show dev eth0"))
    address = shown[0]["addr_info"][0]["local"]
    key = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(command, check=True)
    options = ["BatchMode=yes", "ConnectTimeout=60", "StrictHostKeyChecking=no"]
    options.append(f"UserKnownHostsFile={tmp_path}/known")
    command = ["ssh", *(f"-o{each}" for each in options), "-i", str(key), "-p", "22222"]

    def login(user):
        words = [*command, f"{user}@{address}", "id", "--user"]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def is_written(line):
        # A login costs seconds where a processor is emulated: looking costs nearly nothing.
        return host.run("grep -qF %s /mnt/state/gantry/ssh/authorized_keys", line).rc == 0

    line = key.with_suffix(".pub").read_text().strip()
    assert "Permission denied" in login("root").stderr
    saved(os={"sshKeys": [line]})
    wait_until(lambda: is_written(line))
    assert login("root").stdout == "0\n"
    assert "Permission denied (publickey)" in login("pi").stderr
    saved(os=None)
    wait_until(lambda: not is_written(line))
    assert "Permission denied" in login("root").stderr


@pytest.fixture(scope="module")
def saved(host):
    """Saves keys of config.json as an editor does: a new file in the old one's place.

    The first file comes back once, at the end: each is applied, which takes seconds under qemu.
    """
    original = host.file("/mnt/boot/config.json").content_string

    def save(**keys):
        config = {**json.loads(original), **keys}
        write(host, json.dumps({key: each for key, each in config.items() if each is not None}))

    yield save
    write(host, original)


def write(host, text):
    path = "/mnt/boot/config.json"
    host.check_output("umask 077; printf %%s %s > %s.new; mv %s.new %s", text, path, path, path)


def wait_until(seen, seconds=120):
    end = time.monotonic() + seconds
    while not seen():
        assert time.monotonic() < end
        time.sleep(0.5)

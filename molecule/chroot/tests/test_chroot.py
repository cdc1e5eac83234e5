"""All roles in an image's build: everything for the boot is there, and nothing runs."""

import json

SUITES = {"chroot-bookworm": "12", "chroot-trixie": "13"}
# What the test's image starts by itself. (getty.target, which would start the template, is masked.)
SYSTEM = {"cron.service", "getty@.service", "systemd-pstore.service"}
# In production: no engine on a port, no VPN server, no SSH on port 22.
OURS = {
    "ModemManager.service",
    "NetworkManager-dispatcher.service",
    "NetworkManager-wait-online.service",
    "NetworkManager.service",
    "avahi-daemon.service",
    "avahi-daemon.socket",
    "chrony.service",
    "docker.service",
    "gantry-config.path",
    "gantry-config.service",
    "gantry-dns.service",
    "gantry-factory-reset.service",
    "gantry-firewall.service",
    "gantry-kernel.service",
    "gantry-proxy.service",
    "gantry-splash.service",
    "gantry-ssh.service",
    "gantry-state.service",
    "gantry-supervisor.service",
    "gantry-zram.service",
}


def test_the_suite_is_what_it_says(host):
    name = host.ansible.get_variables()["inventory_hostname"]
    assert host.system_info.release.split(".")[0] == SUITES[name]


def test_nothing_runs(host):
    # Those that have ended stay listed (Z): no init collects them.
    rows = [row.split() for row in host.check_output("ps -e -o stat=,comm=").splitlines()]
    found = {name for state, name, *_ in rows if not state.startswith("Z")}
    assert found - {"ps", "sh"} == {"sleep"}
    assert host.check_output("ss --no-header --tcp --udp --listening") == ""
    assert host.check_output("find /run -type s") == ""


def test_every_unit_of_ours_is_in_order(host):
    units = host.check_output(
        "find /etc/systemd/system -maxdepth 1 -name 'gantry-*' -type f"
    ).split()
    assert len(units) > 5
    for unit in units:
        said = host.run("systemd-analyze verify --man=no %s", unit).stderr.splitlines()
        assert not [line for line in said if "gantry-" in line], unit


def unit_files(host, state):
    listed = host.check_output(
        "systemctl --root=/ list-unit-files --state=%s --no-legend --no-pager", state
    )
    return {line.split()[0] for line in listed.splitlines()}


def test_what_starts_at_boot(host):
    assert unit_files(host, "enabled") == SYSTEM | OURS


def test_what_the_device_will_be(host):
    device = json.loads(host.file("/etc/gantry/device.json").content_string)
    assert device == {"board": "", "deviceType": "generic-amd64", "variant": "production"}
    cmdline = host.file("/boot/firmware/cmdline.txt").content_string
    assert cmdline.count("\n") == 1
    assert cmdline.split().count("cgroup_enable=memory") == 1


def test_nothing_is_where_the_boot_will_mount_something(host):
    for folder in ("/mnt/boot", "/mnt/data", "/mnt/state"):
        assert host.file(folder).listdir() == [], folder
    files = {"cmdline.txt", "config.txt", "splash", "system-connections", "system-proxy"}
    assert set(host.file("/boot/firmware").listdir()) == files


def test_an_image_has_no_identity(host):
    assert host.file("/etc/machine-id").content_string in ("", "uninitialized\n")
    assert host.check_output("find /etc/ssh /mnt/state -name 'ssh_host_*_key'") == ""
    assert not host.file("/run/reboot-required").exists

"""All roles in an image's build: everything for the boot is there, and nothing runs."""

import json

SUITES = {"chroot-bookworm": "12", "chroot-trixie": "13"}


def test_the_suite_is_what_it_says(host):
    name = host.ansible.get_variables()["inventory_hostname"]
    assert host.system_info.release.split(".")[0] == SUITES[name]


def test_nothing_runs(host):
    found = host.check_output("ps -e -o comm=").split()
    assert sorted(set(found) - {"ps", "sh"}) == ["sleep"]
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


def test_what_starts_at_boot(host):
    listed = host.check_output(
        "systemctl --root=/ list-unit-files --state=enabled --no-legend --no-pager"
    )
    enabled = {line.split()[0] for line in listed.splitlines()}
    assert {"docker.service", "chrony.service", "NetworkManager.service"} <= enabled
    assert {"gantry-config.path", "gantry-config.service", "gantry-firewall.service"} <= enabled
    assert {"gantry-supervisor.service"} <= enabled
    # In production: no console, no engine on a port, no VPN server.
    assert not {"getty@.service", "serial-getty@.service"} & enabled
    server = host.run("systemctl --root=/ is-enabled openvpn-server@gantry.service")
    assert server.stdout == "disabled\n"


def test_what_the_device_will_be(host):
    device = json.loads(host.file("/etc/gantry/device.json").content_string)
    assert device == {"board": "", "deviceType": "generic-amd64", "variant": "production"}
    cmdline = host.file("/boot/firmware/cmdline.txt").content_string
    assert cmdline.count("\n") == 1
    assert cmdline.split().count("cgroup_enable=memory") == 1


def test_an_image_has_no_identity(host):
    assert host.file("/etc/machine-id").content_string in ("", "uninitialized\n")
    assert host.check_output("find /etc/ssh /mnt/state -name 'ssh_host_*_key'") == ""
    assert not host.file("/mnt/boot/config.json").exists
    assert not host.file("/run/reboot-required").exists

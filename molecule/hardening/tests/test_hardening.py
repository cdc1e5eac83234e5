"""Exact kernel settings, sandboxes, units, modes; what accounts may do, before and after a boot."""

import time
from collections.abc import Callable

import pytest
from testinfra.host import Host

On = Callable[[str], Host]

RULE = "/etc/sudoers.d/010_pi-nopasswd"
HARDENED = ["hardening-production", "hardening-by-pi", "hardening-development"]
NETWORK = {
    "net.ipv4.conf.all.accept_redirects": 0,
    "net.ipv4.conf.all.accept_source_route": 0,
    "net.ipv4.conf.all.rp_filter": 2,
    "net.ipv4.conf.all.secure_redirects": 0,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.accept_redirects": 0,
    "net.ipv4.conf.default.accept_source_route": 0,
    "net.ipv4.conf.default.rp_filter": 2,
    "net.ipv4.conf.default.secure_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
    "net.ipv4.icmp_echo_ignore_broadcasts": 1,
    "net.ipv4.icmp_ignore_bogus_error_responses": 1,
    "net.ipv4.tcp_rfc1337": 1,
    "net.ipv4.tcp_syncookies": 1,
    "net.ipv6.conf.all.accept_redirects": 0,
    "net.ipv6.conf.all.accept_source_route": 0,
    "net.ipv6.conf.default.accept_redirects": 0,
    "net.ipv6.conf.default.accept_source_route": 0,
}
MASKED = {
    "apt-daily-upgrade.service",
    "apt-daily-upgrade.timer",
    "apt-daily.service",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "man-db.timer",
    "rpcbind.service",
    "rpcbind.socket",
    "sshswitch.service",
    "triggerhappy.service",
    "triggerhappy.socket",
    "userconfig.service",
}
# fmt: off
BLOCKED = {
    "appletalk", "atm", "ax25", "dccp", "ipx", "n_hdlc", "netrom", "p8022", "p8023", "psnap", "rds",
    "rose", "sctp", "tipc", "x25",
}
# fmt: on
OUR_UNITS = {
    "LockPersonality": "yes",
    "NoNewPrivileges": "yes",
    "RestrictRealtime": "yes",
    "SystemCallArchitectures": "native",
}
AVAHI = OUR_UNITS | {
    "CapabilityBoundingSet": "cap_chown cap_dac_override cap_setgid cap_setuid cap_sys_chroot",
    "MemoryDenyWriteExecute": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectSystem": "strict",
    "ReadWritePaths": "/run",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_NETLINK AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictSUIDSGID": "yes",
}
MODES = {
    "/etc/NetworkManager/system-connections": ("root", 0o700),
    "/etc/gshadow": ("shadow", 0o640),
    "/etc/gshadow-": ("shadow", 0o640),
    "/etc/openvpn/client": ("root", 0o700),
    "/etc/openvpn/server": ("root", 0o700),
    "/etc/shadow": ("shadow", 0o640),
    "/etc/shadow-": ("shadow", 0o640),
    "/etc/sudoers.d": ("root", 0o750),
    "/root": ("root", 0o700),
}


def shown(host: Host, unit: str, names: set[str]) -> dict[str, str]:
    """Properties of a unit; sets in an order of their own."""
    text = host.check_output("systemctl show %s --property=%s", unit, ",".join(sorted(names)))
    pairs = (line.split("=", 1) for line in text.splitlines())
    unordered = {"CapabilityBoundingSet", "RestrictAddressFamilies"}
    return {
        name: " ".join(sorted(value.split())) if name in unordered else value
        for name, value in pairs
    }


def masked(host: Host) -> set[str]:
    text = host.check_output("systemctl list-unit-files --state=masked --no-legend --plain")
    return {line.split()[0] for line in text.splitlines()}


@pytest.mark.parametrize("name", HARDENED)
def test_network_settings_are_exactly_these(on: On, name: str) -> None:
    host = on(name)
    paths = [f"/proc/sys/{key.replace('.', '/')}" for key in NETWORK]
    values = host.check_output("cat " + " ".join(paths)).split()
    assert dict(zip(NETWORK, map(int, values), strict=True)) == NETWORK


def test_forwarding_is_left_to_the_engine(on: On) -> None:
    forwarding = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding"
    untouched = on("hardening-refused").check_output(forwarding)
    assert on("hardening-production").check_output(forwarding) == untouched


def test_a_container_sets_nothing_of_the_machine_that_it_runs_on(on: On) -> None:
    host = on("hardening-production")
    assert shown(host, "gantry-kernel", {"ActiveState", "ConditionResult", "UnitFileState"}) == {
        "ActiveState": "inactive",
        "ConditionResult": "no",
        "UnitFileState": "enabled",
    }
    read = host.check_output("systemd-analyze cat-config sysctl.d")
    assert "dmesg_restrict" not in read
    assert "core_pattern" not in read


def test_services_leave_no_core_dumps(on: On) -> None:
    host = on("hardening-production")
    assert host.check_output("systemctl show --property=DefaultLimitCORE").endswith("=0")
    limit = host.check_output("systemd-run --quiet --wait --pipe sh -c 'ulimit -Hc'")
    assert limit == "0"


@pytest.mark.parametrize("name", HARDENED)
def test_masked_units_are_exactly_these(on: On, name: str) -> None:
    before = masked(on("hardening-refused"))
    assert masked(on(name)) == before | MASKED
    refused = on(name).run("systemctl start apt-daily.timer")
    assert "masked" in refused.stderr
    assert on(name).check_output("systemctl list-units --failed --no-legend --plain") == ""


def test_rare_protocols_cannot_be_loaded(on: On) -> None:
    config = on("hardening-production").check_output("modprobe --showconfig")
    ours = {line for line in config.splitlines() if line.startswith("install ")}
    assert ours == {f"install {each} /bin/false" for each in BLOCKED}


@pytest.mark.parametrize("name", HARDENED)
def test_sandboxes_are_exactly_these(on: On, name: str) -> None:
    host = on(name)
    assert shown(host, "avahi-daemon", set(AVAHI)) == AVAHI
    calls = shown(host, "avahi-daemon", {"SystemCallFilter"})["SystemCallFilter"].split()
    assert {"chroot", "sendmsg"} < set(calls)
    assert not {"mount", "ptrace", "init_module", "reboot", "bpf"} & set(calls)
    assert shown(host, "gantry-config", set(OUR_UNITS)) == OUR_UNITS
    chrony = {"NoNewPrivileges": "yes", "ReadWritePaths": "/run", "RestrictRealtime": "yes"}
    assert shown(host, "chrony", set(chrony)) == chrony


def test_avahi_works_in_its_sandbox_and_cannot_leave_it(on: On) -> None:
    host = on("hardening-production")
    assert host.check_output("avahi-resolve --name raspberrypi.local").split()[0] == (
        "raspberrypi.local"
    )
    pid = host.check_output("systemctl show avahi-daemon --property=MainPID --value")
    status = dict(
        line.split(":", 1) for line in host.file(f"/proc/{pid}/status").content_string.splitlines()
    )
    assert {key: status[key].strip() for key in ("NoNewPrivs", "Seccomp")} == {
        "NoNewPrivs": "1",
        "Seccomp": "2",
    }
    write = host.run(f"nsenter --target {pid} --mount touch /etc/from-avahi")
    assert "Read-only file system" in write.stderr
    assert not host.file("/etc/from-avahi").exists


@pytest.mark.parametrize("name", HARDENED)
def test_secrets_have_exactly_these_modes(on: On, name: str) -> None:
    host = on(name)
    found = {path: (host.file(path).group, host.file(path).mode) for path in MODES}
    assert found == MODES


def test_the_sudo_that_the_play_came_by_ends_when_nobody_uses_it(on: On) -> None:
    host = on("hardening-by-pi")
    # It looks every five seconds, for two minutes: each look is brought forward.
    sleeping = "pkill -P $(systemctl show --property=MainPID --value gantry-lock-account) sleep"
    give_up = time.monotonic() + 200
    while host.file(RULE).exists:
        assert host.service("gantry-lock-account").is_running
        assert time.monotonic() < give_up, host.check_output("ps -u pi -f || true")
        host.run(f"for look in 1 2 3 4 5 6; do {sleeping}; sleep 0.1; done")
    assert host.run("runuser -u pi -- sudo -n true").rc == 1
    assert host.check_output("passwd --status pi").split()[1] == "L"


def test_a_boot_puts_modes_right_and_ends_the_sudo_too(
    on: On, reboot: Callable[[Host], None]
) -> None:
    host = on("hardening-by-pi")
    connection = "/etc/NetworkManager/system-connections/home.nmconnection"
    host.check_output(f"echo 'pi ALL=(ALL) NOPASSWD: ALL' > {RULE}")
    assert host.run("runuser -u pi -- sudo -n true").rc == 0
    host.check_output(f"install -m 0644 /dev/null {connection}")
    reboot(host)
    assert host.file(connection).mode == 0o600
    assert host.run("runuser -u pi -- sudo -n true").rc == 1
    assert not host.file(RULE).exists
    assert host.check_output("systemctl is-system-running") == "running"


def test_the_first_account_is_locked_in_production_alone(on: On) -> None:
    production, development = on("hardening-production"), on("hardening-development")
    assert production.run("runuser -u pi -- sudo -n true").rc == 1
    assert production.check_output("passwd --status pi").split()[1] == "L"
    assert production.check_output("passwd --status guest").split()[1] == "P"
    assert development.run("runuser -u pi -- sudo -n true").rc == 0
    assert development.check_output("passwd --status pi").split()[1] == "P"


def test_only_administrators_become_others(on: On) -> None:
    host = on("hardening-development")
    administrator = host.run("echo guest | runuser -u pi -- su guest -c 'id -un'")
    assert administrator.stdout.strip() == "guest"
    other = host.run("echo raspberry | runuser -u guest -- su pi -c 'id -un'")
    assert other.rc != 0
    assert "pi" not in other.stdout
    assert host.run("su guest -c true").rc == 0


def test_what_was_refused_changed_nothing(on: On) -> None:
    host = on("hardening-refused")
    for path in (
        "/etc/sysctl.d/90-gantry-hardening.conf",
        "/etc/gantry/kernel.conf",
        "/etc/modprobe.d/gantry-hardening.conf",
        "/etc/systemd/system/gantry-kernel.service",
        "/etc/systemd/system/avahi-daemon.service.d",
    ):
        assert not host.file(path).exists, path
    assert host.check_output("passwd --status pi").split()[1] == "P"
    assert "pam_wheel.so use_uid" not in host.file("/etc/pam.d/su").content_string


def test_an_image_is_hardened_before_it_boots(on: On) -> None:
    host = on("hardening-chroot")
    units = host.run(f"systemctl is-enabled gantry-kernel {' '.join(sorted(MASKED))}")
    assert units.stdout.split() == ["enabled"] + ["masked"] * len(MASKED)
    assert host.check_output("passwd --status pi").split()[1] == "L"
    assert not host.file("/etc/sudoers.d/010_pi-nopasswd").exists
    assert {path: (host.file(path).group, host.file(path).mode) for path in MODES} == MODES

"""What the role makes of a host: with defaults, with settings of its own, and refused."""

import json
import time

import pytest

TICKET = "/run/reboot-required"
COMMAND_LINE = (
    "console=serial0,115200 console=tty1 root=PARTUUID=4e639091-02 rootfstype=ext4 "
    "fsck.repair=yes rootwait"
)


def time_servers(host):
    found = host.run("chronyc -n -c sources")
    assert found.rc == 0, found.stderr
    return {line.split(",")[2] for line in found.stdout.splitlines()}


def show(host, unit, *names):
    lines = host.check_output("systemctl show %s -p %s", unit, ",".join(names)).splitlines()
    return dict(line.split("=", 1) for line in lines)


def wait_for(check, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.3)
    return False


@pytest.fixture
def config(on):
    """Change a host's config.json as its owner would, and put it back."""
    changed = []

    def change(name, **keys):
        host = on(name)
        path = "/mnt/boot/config.json"
        before = host.file(path).content_string if host.file(path).exists else None
        changed.append((host, path, before))
        document = json.loads(before or "{}") | keys
        host.check_output("mkdir -p /mnt/boot && printf %%s %s > %s", json.dumps(document), path)
        return host

    yield change
    for host, path, before in reversed(changed):
        if before is None:
            host.check_output("rm %s", path)
        else:
            host.check_output("printf %%s %s > %s", before, path)
        host.check_output("gantry-config apply")


@pytest.mark.parametrize("name", ["host-base-default", "host-base-configured", "host-base-uuid"])
def test_the_system_is_whole(on, name):
    host = on(name)
    assert host.run("systemctl is-system-running").stdout.strip() == "running"
    states = show(host, "chrony.service", "ActiveState", "UnitFileState")
    assert states == {"ActiveState": "active", "UnitFileState": "enabled"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("host-base-default", "raspberrypi"),
        ("host-base-configured", "lab-robot"),
        ("host-base-uuid", "0123456"),
    ],
)
def test_host_name(on, name, expected):
    host = on(name)
    assert host.check_output("hostname") == expected
    assert host.file("/etc/hostname").content_string == f"{expected}\n"
    assert host.check_output("getent hosts %s", expected)


def test_host_name_follows_config_json_at_once(config):
    host = config("host-base-uuid", hostname="bench.lab")
    assert wait_for(lambda: host.check_output("hostname") == "bench.lab")
    lines = host.file("/etc/hosts").content_string.splitlines()
    assert [each for each in lines if each.startswith("127.0.1.1")] == ["127.0.1.1\tbench.lab"]


def test_wrong_host_name_is_refused_and_the_rest_goes_on(config):
    host = config("host-base-configured", hostname="my robot", ntpServers="192.0.2.9")
    assert wait_for(lambda: time_servers(host) == {"192.0.2.9"})
    assert host.check_output("hostname") == "lab-robot"
    journal = host.check_output("journalctl --unit gantry-config.service --output cat")
    assert "hostname 'my robot' cannot be a host's name" in journal


@pytest.mark.parametrize(
    ("name", "servers"),
    [
        ("host-base-default", {"192.0.2.1", "192.0.2.2"}),
        ("host-base-configured", {"192.0.2.7", "2001:db8::7"}),
    ],
)
def test_time_servers(on, name, servers):
    assert time_servers(on(name)) == servers


def test_time_servers_go_back_with_the_setting(config):
    host = config("host-base-configured", ntpServers="")
    assert wait_for(lambda: time_servers(host) == {"192.0.2.1", "192.0.2.2"})


def test_chrony_answers_nobody(on):
    found = on("host-base-default").check_output(
        "ss --no-header --udp --tcp --listening --processes"
    )
    assert "chronyd" not in found


def test_time_zone(on):
    assert on("host-base-default").check_output("date -d @0 +%Z") == "UTC"
    assert on("host-base-configured").check_output("date -d @0 +%Z") == "CET"
    assert on("host-base-configured").file("/etc/timezone").content_string == "Europe/Berlin\n"


def test_watchdog(on):
    shown = "systemctl show --property RuntimeWatchdogUSec"
    assert on("host-base-default").check_output(shown) == "RuntimeWatchdogUSec=10s"
    assert on("host-base-configured").check_output(shown) == "RuntimeWatchdogUSec=0"


def test_swap(on):
    host = on("host-base-default")
    states = show(host, "gantry-zram.service", "UnitFileState", "ActiveState")
    assert states == {"UnitFileState": "enabled", "ActiveState": "active"}
    # A container's swap would be its host's: the machine's is as it was.
    assert "a container's swap would be its host's" in host.check_output(
        "journalctl --unit gantry-zram.service --output cat"
    )
    states = show(on("host-base-configured"), "gantry-zram.service", "UnitFileState", "ActiveState")
    assert states == {"UnitFileState": "disabled", "ActiveState": "inactive"}
    assert host.run("systemctl is-enabled dphys-swapfile").stdout == "masked\n"
    # The links' targets are nobody's business.
    assert host.file("/dev/null").mode == 0o666
    assert host.check_output("stat --dereference --format %a /etc/localtime") == "644"


def test_the_device_outlives_applications(on):
    for unit in ("gantry-config.service", "gantry-zram.service"):
        assert show(on("host-base-default"), unit, "OOMScoreAdjust") == {"OOMScoreAdjust": "-900"}


def test_memory_control_group_is_switched_on_once(on):
    host = on("host-base-default")
    cmdline = host.file("/boot/firmware/cmdline.txt").content_string
    assert cmdline == f"{COMMAND_LINE} cgroup_enable=memory cgroup_memory=1\n"
    # The kernel here is the test machine's, which was not started with it.
    assert host.file(TICKET).content_string.startswith("memory limits of containers")


def test_memory_control_group_that_was_half_on(on):
    host = on("host-base-uuid")
    assert host.file("/boot/firmware/cmdline.txt").content_string == (
        "console=tty1 cgroup_memory=1 rootwait cgroup_enable=memory\n"
        "# cgroup_enable=memory is not on this line\n"
    )


def test_memory_control_group_is_left_alone_where_asked(on):
    host = on("host-base-configured")
    assert host.file("/boot/firmware/cmdline.txt").content_string == f"{COMMAND_LINE}\n"
    assert not host.file(TICKET).exists


def test_what_was_refused_changed_nothing(on):
    host = on("host-base-refused")
    assert host.check_output("date -d @0 +%Z") == "UTC"
    assert not host.file("/usr/local/lib/gantry/zram").exists
    assert not host.file("/etc/systemd/system/gantry-zram.service").exists
    assert host.file("/boot/firmware/cmdline.txt").content_string == f"{COMMAND_LINE}\n"


def test_name_and_time_servers_are_there_after_a_reboot(on, reboot):
    host = on("host-base-configured")
    reboot(host)
    assert host.check_output("hostname") == "lab-robot"
    assert time_servers(host) == {"192.0.2.7", "2001:db8::7"}

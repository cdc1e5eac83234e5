"""The common ground of roles on a host: what is installed, when settings are applied."""

import json
import time

import pytest

DEVICES = ("device-config-production", "device-config-development")
REFUSED = (
    "device-config-system",
    "device-config-board",
    "device-config-settings",
    "device-config-variant",
)
FOLDERS = ("splash", "system-connections", "system-proxy")
HOOK = """#!/bin/sh
find "$GANTRY_BOOT" -mindepth 2 -type f >> /run/hook-saw
echo "$GANTRY_VARIANT $GANTRY_BOOTED $GANTRY_UUID $(cat "$GANTRY_CONFIG")" >> /run/hook-ran
[ ! -e /run/hook-fails ]
"""

FIRST = """[Socket]
ListenStream=/run/gantry/first/sock
DirectoryMode=0700
[Install]
WantedBy=sockets.target
"""


def wait_for(check, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.3)
    return False


@pytest.fixture
def host(on):
    """A device with a hook that writes down how it was called."""
    host = on("device-config-development")
    hook = "/usr/local/lib/gantry/config.d/50-test"
    host.check_output("printf %%s %s > %s && chmod 755 %s", HOOK, hook, hook)
    host.check_output("mkdir -p /mnt/boot && rm -f /run/hook-*")
    yield host
    host.check_output("rm -rf %s /mnt/boot/* /run/hook-*", hook)


def ran(host):
    file = host.file("/run/hook-ran")
    return file.content_string.splitlines() if file.exists else []


def saw(host, path):
    """Whether a run has seen a file of the boot partition."""
    file = host.file("/run/hook-saw")
    return file.exists and path in file.content_string.splitlines()


def write_config(host, text):
    host.check_output("printf %%s %s > /mnt/boot/config.json", text)


@pytest.mark.parametrize("name", DEVICES)
def test_units(on, name):
    host = on(name)
    assert host.service("gantry-config.path").is_running
    assert host.service("gantry-config.path").is_enabled
    assert host.service("gantry-config.service").is_enabled
    shown = host.check_output("systemctl list-units --no-legend --plain 'gantry-config*.path'")
    assert {tuple(line.split()[:4]) for line in shown.splitlines()} == {
        (unit, "loaded", "active", "waiting")
        for unit in ("gantry-config.path", *(f"gantry-config@{each}.path" for each in FOLDERS))
    }
    assert host.run("systemctl is-system-running").stdout.strip() == "running"


@pytest.mark.parametrize("name", DEVICES)
def test_what_the_device_is(on, name):
    file = on(name).file("/etc/gantry/device.json")
    assert json.loads(file.content_string) == {
        "board": "Raspberry Pi 3 Model B Plus Rev 1.3",
        "deviceType": "generic-amd64",
        "variant": name.removeprefix("device-config-"),
    }
    assert (file.user, file.mode) == ("root", 0o644)


def test_it_comes_before_what_it_configures(on):
    shown = on(DEVICES[0]).check_output("systemctl show gantry-config.service -p Before,After")
    before, after = (
        set(line.partition("=")[2].split()) for line in sorted(shown.splitlines())[::-1]
    )
    assert {"network-pre.target", "NetworkManager.service", "docker.service"} <= before
    assert {"avahi-daemon.service", "chrony.service"} <= before
    assert "local-fs.target" in after or "sysinit.target" in after


def test_a_saved_file_is_applied_at_once(host):
    uuid = "0123456789abcdef0123456789abcdef"
    write_config(host, json.dumps({"uuid": uuid}))
    assert wait_for(lambda: f'development 1 {uuid} {{"uuid": "{uuid}"}}' in ran(host))
    # Nothing of the settings stays on /run.
    assert wait_for(lambda: host.check_output("find /run/gantry -name '*.json'") == "")
    last = host.file("/mnt/state/gantry/config.last-good.json")
    assert (last.user, last.mode) == ("root", 0o600)


def test_a_file_that_replaces_it_is_seen(host):
    write_config(host, "{}")
    assert wait_for(lambda: "development 1  {}" in ran(host))
    host.check_output(
        "printf '{\"a\": 1}' > /mnt/boot/new && mv /mnt/boot/new /mnt/boot/config.json"
    )
    assert wait_for(lambda: 'development 1  {"a": 1}' in ran(host))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_file_that_is_dropped_into_a_folder_is_seen(host, folder):
    """Also into one that was not there; and the others are watched on while one is missing."""
    path = f"/mnt/boot/{folder}/file"
    assert not host.file("/mnt/boot").listdir()
    host.check_output("mkdir /mnt/boot/%s && touch %s", folder, path)
    assert wait_for(lambda: saw(host, path))
    write_config(host, '{"a": 1}')
    assert wait_for(lambda: 'development 1  {"a": 1}' in ran(host))
    host.check_output("echo 1 > /mnt/boot/.new && mv /mnt/boot/.new %s-2", path)
    assert wait_for(lambda: saw(host, f"{path}-2"))


def test_a_broken_file_keeps_the_last_good_settings(host):
    write_config(host, '{"hostname": "good"}')
    assert wait_for(lambda: ran(host) and ran(host)[-1].endswith('{"hostname": "good"}'))
    for text in ('{"hostname": "half', "[]", '{"hostname": 1}', '{"localMode": "on"}'):
        write_config(host, text)
        done = host.run("gantry-config apply")
        assert done.rc == 1
        assert done.stderr.startswith("gantry-config: /mnt/boot/config.json")
        assert len(done.stderr.splitlines()) == 1
        assert ran(host)[-1].endswith('{"hostname": "good"}')


def test_a_hook_that_fails_fails_the_unit_and_is_tried_again(host):
    host.check_output("touch /run/hook-fails")
    write_config(host, '{"a": 1}')
    assert wait_for(lambda: host.run("systemctl is-failed gantry-config").stdout == "failed\n")
    host.check_output("rm /run/hook-fails")
    write_config(host, '{"a": 2}')
    assert wait_for(lambda: host.run("systemctl is-failed gantry-config").stdout == "inactive\n")


def test_many_saves_in_a_row(host):
    host.check_output(
        "for n in $(seq 30); do echo '{}' > /mnt/boot/config.json; sleep 0.05; done; "
        "printf '{\"last\": 1}' > /mnt/boot/config.json"
    )
    assert wait_for(lambda: ran(host) and ran(host)[-1].endswith('{"last": 1}'))
    assert host.service("gantry-config.path").is_running


SLOW = {
    # It has looked, and is not gone yet, while the next run ends.
    "gantry-config-missed": "ExecCondition=\nExecCondition=/bin/sh -c "
    "'gantry-config missed; found=$$?; touch /run/looked; sleep 8; exit $$found'",
    # The hooks are through, and nothing is watched yet.
    "gantry-config": "ExecStartPost=/bin/sleep 3",
}


@pytest.fixture
def slow(host):
    """The device, where what takes a moment takes seconds."""
    for unit, setting in SLOW.items():
        folder = f"/run/systemd/system/{unit}.service.d"
        host.check_output("mkdir %s", folder)
        host.check_output("printf '[Service]\n%%s\n' %s > %s/slow.conf", setting, folder)
    host.check_output("systemctl daemon-reload")
    # What the test before has changed is applied, and looked for.
    quiet = f"systemctl is-active {' '.join(SLOW)}"
    assert wait_for(lambda: set(host.run(quiet).stdout.split()) <= {"inactive"}, seconds=40)
    host.check_output("rm -f /run/looked /run/hook-*")
    yield host
    for unit in SLOW:
        host.check_output("rm -r /run/systemd/system/%s.service.d", unit)
    host.check_output("rm -f /run/looked && systemctl daemon-reload")


def test_what_is_saved_while_the_look_for_it_ends_is_applied_too(slow):
    """The run that ends then has a look of its own."""
    write_config(slow, '{"a": 1}')
    assert wait_for(lambda: slow.file("/run/looked").exists)
    write_config(slow, '{"a": 2}')
    assert wait_for(lambda: ran(slow)[-1].endswith('{"a": 2}'))
    write_config(slow, '{"a": 3}')
    assert wait_for(lambda: ran(slow)[-1].endswith('{"a": 3}'), seconds=40)


def test_settings_are_applied_at_boot(host, reboot):
    write_config(host, '{"a": 3}')
    assert wait_for(lambda: ran(host))
    reboot(host)
    assert ran(host) == ['development 1  {"a": 3}']


def test_everybody_reaches_his_folder_whoever_comes_first_at_boot(host, reboot):
    unit = "/etc/systemd/system/first.socket"
    host.check_output("printf %%s %s > %s && systemctl enable first.socket", FIRST, unit)
    host.check_output("printf '[Service]\\nExecStart=true\\n' > /etc/systemd/system/first.service")
    try:
        reboot(host)
        assert host.file("/run/gantry/first/sock").is_socket
        assert host.file("/run/gantry/first").mode == 0o700
        assert host.file("/run/gantry").mode == 0o755
    finally:
        host.check_output("systemctl disable --now first.socket; rm /etc/systemd/system/first.*")


@pytest.mark.parametrize("name", REFUSED)
def test_what_was_refused_is_as_it_was(on, name):
    host = on(name)
    found = host.check_output(
        "find /etc/gantry /usr/local/lib/gantry /usr/local/sbin/gantry-config /mnt/state "
        "/etc/systemd/system/gantry-config* /etc/systemd/system/*/gantry-config* "
        "/etc/tmpfiles.d/gantry* "
        "2>/dev/null || true"
    )
    assert found == ""

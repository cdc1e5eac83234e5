"""Where the journal is: in RAM, on the state partition, and from one to the other."""

import json
import secrets
import time
from pathlib import Path

import pytest

CONFIG = "/mnt/boot/config.json"
# Lines of an earlier run on the same host are not this one's.
IDENTIFIER = f"journal-test-{secrets.token_hex(4)}"


@pytest.fixture
def pi(on):
    return on("journal-pi")


def configure(host, **keys):
    """Save config.json as somebody with the card in their hands would."""
    host.check_output("mkdir -p /mnt/boot && printf %%s %s > %s", json.dumps(keys), CONFIG)


def wait_for(check, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if check():
            return True
        time.sleep(0.3)
    return False


def files(host):
    """The folders that the running journal writes to; none while it starts anew."""
    found = host.run("readlink /proc/$(pidof systemd-journald)/fd/*").stdout.splitlines()
    journals = [Path(each) for each in found if each.endswith(".journal")]
    return {str(each.parent.parent) for each in journals}


def say(host, text):
    host.check_output("systemd-cat --identifier %s echo %s", IDENTIFIER, text)
    host.check_output("journalctl --sync")


def said(host):
    return host.check_output("journalctl --identifier %s --output cat", IDENTIFIER).splitlines()


def in_ram(host):
    return files(host) == {"/run/log/journal"}


def on_state(host):
    return files(host) == {"/var/log/journal"}


def test_volatile_by_default(pi, reboot):
    assert in_ram(pi)
    assert not pi.mount_point("/var/log/journal").exists
    say(pi, "before the reboot")
    assert said(pi) == ["before the reboot"]
    reboot(pi)
    assert said(pi) == []


def test_eight_megabytes_at_most(pi):
    # The limit that journald works with, as it says at its start.
    line = pi.check_output("journalctl --output cat --grep 'Runtime Journal.*max' | tail -n 1")
    assert "max 8.0M" in line, line
    # In a unit of its own: journald drops what a unit says after 10,000 lines in half a minute.
    flood = (
        "for n in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 1000000 /dev/zero | tr '\\0' a"
        " | fold -w 900 | systemd-cat --identifier journal-flood; done"
    )
    pi.check_output("systemd-run --wait --quiet sh -c %s", flood)
    pi.check_output("journalctl --sync")
    assert int(pi.check_output("du --summarize --bytes /run/log/journal").split()[0]) <= 8 << 20


def test_persistent_logging_at_once_and_over_a_reboot(pi, reboot):
    say(pi, "in RAM first")
    configure(pi, persistentLogging=True, kept="as it is")
    assert wait_for(lambda: on_state(pi))
    say(pi, "on the state partition")
    reboot(pi)
    assert on_state(pi)
    assert said(pi) == ["in RAM first", "on the state partition"]
    mount = pi.mount_point("/var/log/journal")
    assert mount.exists
    assert pi.file("/mnt/state/journal").group == "systemd-journal"
    assert pi.file("/mnt/state/journal").mode == 0o2755
    assert json.loads(pi.file(CONFIG).content_string)["kept"] == "as it is"


def test_a_broken_config_json_keeps_what_was(pi, reboot):
    pi.check_output("printf '{\"persistentLogging\": fals' > %s", CONFIG)
    assert wait_for(lambda: pi.run("systemctl is-failed gantry-config").stdout == "failed\n")
    assert on_state(pi)
    reboot(pi)
    assert on_state(pi)
    journal = pi.check_output("journalctl --boot --unit gantry-config --output cat")
    assert "config.json is not JSON" in journal
    assert "The last good settings stay" in journal


def test_a_wrong_kind_of_value_is_named(pi):
    configure(pi, persistentLogging="yes")
    found = pi.run("gantry-config apply")
    assert found.rc == 1
    assert "persistentLogging is a text: it must be true or false" in found.stderr
    assert on_state(pi)


def test_back_to_ram_at_once(pi, reboot):
    configure(pi, persistentLogging=False)
    assert wait_for(lambda: in_ram(pi))
    assert not pi.mount_point("/var/log/journal").exists
    say(pi, "in RAM again")
    reboot(pi)
    assert in_ram(pi)
    assert said(pi) == []
    assert pi.run("systemctl is-system-running").stdout.strip() == "running"


def test_what_was_refused_changed_nothing(on):
    host = on("journal-refused")
    assert not host.file("/etc/systemd/journald.conf.d/gantry.conf").exists
    assert not host.file("/usr/local/lib/gantry/config.d/20-journal").exists

"""Who can log in through the tunnel: asked by logging in from its other end."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

KEYS = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
SECRET = "5ecre7-0f-th3-dev1ce"


class Tunnel:
    """The cloud's end of a device's tunnel, and the api that knows who may come by it."""

    def __init__(self, host):
        self.host = host
        self.allow()

    def allow(self, **users):
        """These users and no others, with their keys by name."""
        allowed = {
            self.fingerprint(key): {"user": user, "line": (KEYS / f"{key}.pub").read_text().strip()}
            for user, key in users.items()
        }
        self.host.check_output("printf %%s %s > /var/lib/api/allowed.json", json.dumps(allowed))
        self.host.check_output(": > /var/lib/api/asked")

    @staticmethod
    def fingerprint(key):
        listed = ["ssh-keygen", "-l", "-f", str(KEYS / f"{key}.pub")]
        return subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()[1]

    def asked(self):
        return self.host.file("/var/lib/api/asked").content_string.splitlines()

    def login(self, key=None, by_tunnel=True):
        """`id -un` by the tunnel, or else from the host itself, with a key of KEYS."""
        address = "100.64.0.2" if by_tunnel else "127.0.0.1"
        options = ""
        if key:
            text = (KEYS / key).read_text()
            self.host.check_output("umask 077; printf %%s %s > /root/key", text)
            options = "-i /root/key"
        where = "ip netns exec cloud " if by_tunnel else ""
        return self.host.run(
            f"{where}ssh -p 22222 -F none -o BatchMode=yes -o IdentitiesOnly=yes "
            "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "
            f"{options} root@{address} id -un"
        )

    def said(self):
        return self.host.check_output(
            "journalctl --no-pager --output=cat --identifier=gantry-ssh-keys"
        )


@pytest.fixture
def tunnel(on):
    return Tunnel(on("remote-fleet"))


def test_through_the_tunnel_come_those_whom_the_api_lets_in(tunnel):
    owner = tunnel.fingerprint("owner")
    tunnel.allow(anna="owner")
    done = tunnel.login("owner")
    assert (done.rc, done.stdout) == (0, "root\n"), done.stderr
    # sshd asks when the key is offered, and again when it is proven.
    assert tunnel.asked() == [f"{owner} known"] * 2
    assert f"{owner} of anna may log in, says the fleet" in tunnel.said()
    # And no more, as soon as the api says so.
    tunnel.allow()
    done = tunnel.login("owner")
    assert done.rc == 255
    assert done.stderr.strip() == "root@100.64.0.2: Permission denied (publickey)."
    assert tunnel.asked() == [f"{owner} known"]


def test_no_other_key_and_no_file_of_keys_counts_there(tunnel):
    tunnel.allow(anna="owner")
    keys = ("operator", "stranger")
    for key in (*keys, None):
        assert tunnel.login(key).rc == 255
    assert tunnel.asked() == [f"{tunnel.fingerprint(each)} known" for each in keys]
    # On other ways all is as it was, and the api is not asked.
    assert tunnel.login("operator", by_tunnel=False).rc == 0
    assert tunnel.login("owner", by_tunnel=False).rc == 255
    assert len(tunnel.asked()) == 2


def test_an_api_that_is_away_lets_nobody_in(tunnel):
    tunnel.allow(anna="owner")
    tunnel.host.check_output("systemctl stop api")
    try:
        assert tunnel.login("owner").rc == 255
    finally:
        tunnel.host.check_output("systemd-run --quiet --unit=api /usr/local/bin/api")
    assert "may not log in: https://localhost:8443 does not answer: [Errno " in tunnel.said()
    end = time.monotonic() + 20
    while tunnel.login("owner").rc:
        assert time.monotonic() < end
        time.sleep(0.3)


def test_a_key_of_the_device_is_read_by_its_program_alone(tunnel):
    host = tunnel.host
    tunnel.allow(anna="owner")
    assert tunnel.login("owner").rc == 0
    folder = "/run/gantry/ssh-fleet"
    found = host.check_output(f"stat --format='%a %U %G %n' {folder} {folder}/*")
    assert found.splitlines() == [
        "750 root gantry-keys /run/gantry/ssh-fleet",
        "640 root gantry-keys /run/gantry/ssh-fleet/ca.crt",
        "640 root gantry-keys /run/gantry/ssh-fleet/settings.json",
    ]
    assert host.check_output("id gantry-keys | sed 's/[0-9]*(//g; s/)//g'") == (
        "uid=gantry-keys gid=gantry-keys groups=gantry-keys"
    )
    assert host.user("gantry-keys").shell == "/usr/sbin/nologin"
    assert SECRET not in host.check_output("journalctl --no-pager --output=export")


@pytest.mark.parametrize("name", ["remote-production", "remote-development", "remote-fleet"])
def test_settings_of_the_tunnel_are_exactly_these(on, name):
    """Without a password too where root needs none in development."""
    asked = "sshd -T -f /etc/ssh/gantry/sshd_config -C user=root,host=,addr=100.64.0.1,laddr="
    near, far = (
        dict(line.split(" ", 1) for line in on(name).check_output(asked + each).splitlines())
        for each in ("192.0.2.7,lport=22222", "100.127.1.2,lport=22222")
    )
    wanted = {
        "authorizedkeyscommand": "/usr/local/lib/gantry/ssh-fleet-keys %f",
        "authorizedkeyscommanduser": "gantry-keys",
        "authorizedkeysfile": "none",
        "authenticationmethods": "publickey",
        "passwordauthentication": "no",
        "permitemptypasswords": "no",
        "permitrootlogin": "without-password",
    }
    assert {key: far[key] for key in wanted} == wanted
    assert {key: each for key, each in far.items() if key not in wanted} == {
        key: each for key, each in near.items() if key not in wanted
    }
    assert near["authorizedkeyscommand"] == "none"


def test_a_standalone_device_has_no_way_in_by_a_tunnel(on):
    asked = "sshd -T -f /etc/ssh/gantry/sshd_config -C user=root,host=,addr=100.64.0.1,laddr="
    assert "authorizedkeyscommand none" in on("remote-standalone").check_output(
        f"{asked}100.64.0.2,lport=22222"
    )

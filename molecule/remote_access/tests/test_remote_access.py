"""Who can log in, where: asked by logging in."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

KEYS = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
FILES = Path(__file__).parents[1] / "files"
SERVED = [
    "remote-production",
    "remote-kept",
    "remote-development",
    "remote-standalone",
    "remote-changed",
]


def address_of(host):
    text = host.check_output("ip -4 -json address show dev eth0")
    return json.loads(text)[0]["addr_info"][0]["local"]


def ssh(host, *command, key=None, user="root", port=22222, options=(), environment=None):
    """Log in from outside, as people do; the process that has ended."""
    line = ["ssh", "-p", str(port), "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
    line += ["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10", "-F", "none"]
    line += ["-o", "IdentitiesOnly=yes", *options]
    line += ["-i", str(KEYS / key)] if key else ["-o", "PubkeyAuthentication=no"]
    if environment is None:
        line += ["-o", "BatchMode=yes"]
    line += [f"{user}@{address_of(host)}", *command]
    told = os.environ | (environment or {})
    told.pop("SSH_AUTH_SOCK", None)
    return subprocess.run(
        line, env=told, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def fingerprints(host):
    scan = ["ssh-keyscan", "-p", "22222", address_of(host)]
    found = subprocess.run(scan, capture_output=True, text=True, check=True).stdout
    return {tuple(line.split()[1:3]) for line in found.splitlines() if not line.startswith("#")}


def listening(host):
    """(protocol, port) of everything that listens to more than the host itself."""
    found = set()
    for line in host.check_output("ss -H -l -n -t -u").splitlines():
        protocol, _, _, _, local, *_ = line.split()
        address, _, port = local.rpartition(":")
        if not address.startswith(("127.", "[::1]")):
            found.add((protocol, int(port)))
    return found


@pytest.mark.parametrize("name", SERVED)
def test_listening_ports_are_exactly_these(on, name):
    expected = {("tcp", 22222)} | ({("tcp", 22)} if name == "remote-kept" else set())
    assert listening(on(name)) == expected


@pytest.mark.parametrize("name", ["remote-production", "remote-standalone", "remote-changed"])
def test_the_operator_logs_in_by_key(on, name):
    done = ssh(on(name), "id", "-un", key="operator")
    assert (done.returncode, done.stdout) == (0, "root\n"), done.stderr


@pytest.mark.parametrize("name", ["remote-production", "remote-kept", "remote-standalone"])
def test_strangers_and_other_accounts_do_not(on, name):
    for user, key in (("root", "stranger"), ("root", None), ("pi", "operator"), ("pi", None)):
        done = ssh(on(name), "true", key=key, user=user)
        assert done.returncode == 255
        assert "Permission denied (publickey)." in done.stderr


def test_no_password_is_taken_though_root_has_one(on, tmp_path):
    host = on("remote-production")
    assert host.check_output("passwd --status root").split()[1] == "P"
    typist = tmp_path / "typist"
    typist.write_text("#!/bin/sh\necho raspberry\n")
    typist.chmod(0o700)
    told = {"SSH_ASKPASS": str(typist), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    methods = ("-o", "PreferredAuthentications=password,keyboard-interactive")
    done = ssh(host, "true", options=methods, environment=told)
    assert done.returncode == 255
    assert "Permission denied (publickey)." in done.stderr


def test_root_needs_no_password_in_development_where_asked(on):
    done = ssh(on("remote-development"), "id", "-un")
    assert (done.returncode, done.stdout) == (0, "root\n"), done.stderr
    assert ssh(on("remote-development"), "true", user="pi").returncode == 255


def test_nobody_else_has_an_empty_password(on):
    for name in SERVED:
        shadow = on(name).file("/etc/shadow").content_string.splitlines()
        empty = {line.split(":")[0] for line in shadow if line.split(":")[1] == ""}
        open_ones = ("remote-development", "remote-changed")
        assert empty == ({"root"} if name in open_ones else set())


def test_files_and_commands_go_over_it(on, tmp_path):
    """What Ansible and people use: sftp, and a session that outlives the server's restart."""
    host = on("remote-production")
    (tmp_path / "sent").write_text("sent")
    copy = ["scp", "-P", "22222", "-i", str(KEYS / "operator"), "-o", "StrictHostKeyChecking=no"]
    copy += ["-o", "UserKnownHostsFile=/dev/null", "-q", "-F", "none", str(tmp_path / "sent")]
    subprocess.run([*copy, f"root@{address_of(host)}:/run/sent"], check=True)
    assert host.file("/run/sent").content_string == "sent"
    restart = "systemctl restart gantry-ssh && sleep 1 && echo still here"
    done = ssh(host, restart, key="operator")
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr


def settle(check, seconds=20):
    end = time.monotonic() + seconds
    while not check() and time.monotonic() < end:
        time.sleep(0.3)
    return check()


def test_keys_of_config_json_come_and_go_without_ansible(on):
    host = on("remote-kept")
    owner, stranger = ((KEYS / f"{each}.pub").read_text().strip() for each in ("owner", "stranger"))
    assert ssh(host, "true", key="owner").returncode == 0
    assert ssh(host, "true", key="operator").returncode == 255

    def configure(*keys):
        config = json.dumps({"os": {"sshKeys": keys}, "kept": "as it is"})
        host.check_output("printf %%s %s > /mnt/boot/config.json", config)

    configure(owner, "no key at all", stranger)
    assert settle(lambda: ssh(host, "true", key="stranger").returncode == 0)
    said = host.check_output("journalctl --unit gantry-config --output cat")
    assert "os.sshKeys: entry 2 is no public key of OpenSSH" in said
    configure(owner)
    assert settle(lambda: ssh(host, "true", key="stranger").returncode == 255)
    assert ssh(host, "true", key="owner").returncode == 0


def test_a_broken_config_json_locks_nobody_out(on, reboot):
    host = on("remote-kept")
    host.check_output("echo '{\"os\": {' > /mnt/boot/config.json")
    reboot(host)
    assert ssh(host, "true", key="owner").returncode == 0
    assert listening(host) == {("tcp", 22), ("tcp", 22222)}


def test_host_keys_are_on_the_state_partition_and_stay(on, reboot):
    host = on("remote-production")
    before = fingerprints(host)
    assert {kind for kind, _ in before} == {"ssh-ed25519", "ecdsa-sha2-nistp256"}
    folder = host.file("/mnt/state/gantry/ssh")
    assert (folder.user, folder.mode) == ("root", 0o700)
    assert set(folder.listdir()) == {
        "authorized_keys",
        "ssh_host_ecdsa_key",
        "ssh_host_ecdsa_key.pub",
        "ssh_host_ed25519_key",
        "ssh_host_ed25519_key.pub",
    } - ({"authorized_keys"} if not host.file(f"{folder.path}/authorized_keys").exists else set())
    for name in ("ssh_host_ecdsa_key", "ssh_host_ed25519_key"):
        assert host.file(f"{folder.path}/{name}").mode == 0o600
    reboot(host)
    assert fingerprints(host) == before
    assert ssh(host, "true", key="operator").returncode == 0
    assert listening(host) == {("tcp", 22222)}


def getty(host):
    """The generator of login prompts, asked as systemd asks it, but with too few arguments: the
    system's own complains."""
    return host.run("/etc/systemd/system-generators/systemd-getty-generator one two")


@pytest.mark.parametrize("name", ["remote-production", "remote-kept"])
def test_production_has_no_login_prompt(on, name):
    host = on(name)
    assert host.check_output("systemctl is-enabled getty.target || true") == "masked"
    assert "masked" in host.run("systemctl start getty.target").stderr
    running = "systemctl list-units --no-legend --plain --state=active '*getty@*' 'console-getty*'"
    assert host.check_output(running) == ""
    assert (getty(host).rc, getty(host).stdout) == (0, "")
    shown = host.check_output(
        "busctl get-property org.freedesktop.login1 /org/freedesktop/login1 "
        "org.freedesktop.login1.Manager NAutoVTs 2>&1 || "
        "systemd-analyze cat-config systemd/logind.conf | grep ^NAutoVTs"
    )
    assert shown in ("u 0", "NAutoVTs=0")


def test_development_has_them_but_a_raspberry_pi_not_on_serial(on):
    pi, other = on("remote-standalone"), on("remote-development")
    for host in (pi, other):
        assert host.check_output("systemctl is-enabled getty@tty1") == "enabled"
        assert host.check_output("systemctl is-active getty.target") == "active"
    assert (getty(pi).rc, getty(pi).stderr) == (0, "")
    assert getty(other).rc != 0
    assert "three arguments" in getty(other).stderr


def test_back_and_forth_leaves_exactly_the_variants_state(on):
    changed = json.loads(on("remote-changed").file("/var/tmp/remembered.json").content_string)
    assert changed["again"] == changed["development"]
    assert changed["production"] != changed["development"]

    def lines(text):
        # remote-production's root has a password; what one command ends, another never began.
        return {each for each in text.splitlines() if not each.startswith("root ")}

    fresh = on("remote-production").check_output((FILES / "remember.sh").read_text())
    assert lines(changed["production"]) == lines(fresh)
    assert "root L" in changed["production"].splitlines()


def test_what_was_refused_changed_nothing(on):
    host = on("remote-refused")
    for path in (
        "/etc/ssh/gantry",
        "/etc/systemd/system/gantry-ssh.service",
        "/etc/systemd/system-generators",
        "/etc/systemd/logind.conf.d",
        "/usr/local/lib/gantry/ssh-fleet-keys",
        "/usr/local/lib/gantry/ssh-host-keys",
        "/mnt/state/gantry/ssh",
    ):
        assert not host.file(path).exists, path
    assert listening(host) == {("tcp", 22)}
    assert (
        host.check_output("systemctl is-enabled ssh.service getty@tty1").split() == ["enabled"] * 2
    )


def test_an_image_is_closed_before_it_boots(on):
    host = on("remote-chroot")
    asked = host.run("systemctl is-enabled gantry-ssh.service ssh.service ssh.socket getty.target")
    assert asked.stdout.split() == ["enabled", "masked", "masked", "masked"]
    keys = host.file("/etc/ssh/gantry/authorized_keys")
    assert (keys.user, keys.mode) == ("root", 0o600)
    assert keys.content_string == (KEYS / "operator.pub").read_text()
    # Each device makes its own.
    assert host.run("ls /mnt/state/gantry/ssh/ssh_host_*").rc == 2

"""What is given to ssh and to the device's shell, where a real shell reads it."""

import shlex
import subprocess
from pathlib import Path

import pytest

from gantry.client import device_ssh
from gantry.client.device_ssh import Login
from gantry.client.records import Device

DEVICE = Device(
    id=1,
    name="quiet crane's 100%",
    uuid="a" * 32,
    application="me/bots",
    device_type="raspberrypi3-64",
    is_online=True,
    status="idle",
    progress=None,
    commit=None,
    target_commit=None,
    ip_address=None,
    os_version=None,
    supervisor_version=None,
    last_seen=None,
    tags={},
    is_vpn_connected=True,
)
WORDS = ["a b", "it's", '"$HOME"', "*", "", "-n", "line\nbreak", "`id`", "\\", "%h"]
# An engine of which each word is printed, and whose `ps` finds what the test says.
ENGINE = """#!/bin/sh
if [ "$1" = ps ]; then
  case "$*" in
    *service-name=main*) echo c0ffee; echo older ;;
    *--format*) printf 'main\\nweb\\nmain\\n' ;;
  esac
  exit 0
fi
for each in "$@"; do printf '<%s>' "$each"; done
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """A folder of programs with `docker` in it: what is tested is what the shell makes of ours."""
    program = tmp_path / "docker"
    program.write_text(ENGINE)
    program.chmod(0o755)
    return tmp_path


def shell(line: str, programs: Path) -> subprocess.CompletedProcess[str]:
    """As sshd does it: the login shell with `-c`."""
    return subprocess.run(
        ["sh", "-c", line],
        env={"PATH": f"{programs}:/usr/bin:/bin", "TERM": "xterm-256color"},
        capture_output=True,
        text=True,
    )


def test_words_reach_the_containers_program_unchanged(engine: Path) -> None:
    line = device_ssh.service_command("main", ["printf", *WORDS], tty=False)
    said = shell(line, engine).stdout
    assert said == "<exec><-i><c0ffee><printf>" + "".join(f"<{each}>" for each in WORDS)


def test_a_terminal_is_given_on(engine: Path) -> None:
    line = device_ssh.service_command("main", ["top"], tty=True)
    assert shell(line, engine).stdout == "<exec><-it><-e><TERM=xterm-256color><c0ffee><top>"


def test_one_word_that_is_more_than_a_name_is_a_line(engine: Path) -> None:
    line = device_ssh.service_command("main", ["ls | wc"], tty=False)
    assert shell(line, engine).stdout == "<exec><-i><c0ffee><sh><-c><ls | wc>"
    assert device_ssh.host_command(["ls | wc"]) == "ls | wc"
    assert device_ssh.host_command([]) is None


def test_words_reach_the_hosts_program_unchanged(engine: Path) -> None:
    line = device_ssh.host_command(["printf", "<%s>", *WORDS])
    assert line
    assert shell(line, engine).stdout == "".join(f"<{each}>" for each in WORDS)


def test_a_service_that_does_not_run(engine: Path) -> None:
    ended = shell(device_ssh.service_command("cam$(id)", ["true"], tty=False), engine)
    assert ended.returncode == device_ssh.NOT_HERE
    assert ended.stderr == "gantry: service cam$(id) does not run here; these run: main web\n"


def test_a_device_without_an_engine(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", device_ssh.service_command("main", ["true"], tty=False)],
        env={"PATH": str(_links(tmp_path))},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == device_ssh.NO_ENGINE
    assert ended.stderr == "gantry: this device has no container engine\n"


def _links(folder: Path) -> Path:
    """Nothing but a shell."""
    (folder / "sh").symlink_to("/bin/sh")
    return folder


def test_ssh_itself_understands_the_settings(tmp_path: Path) -> None:
    home = tmp_path / "100% ours"
    (tmp_path / "key").touch()
    login = Login("devbots", DEVICE, home, tmp_path / "let in", (tmp_path / "key",), True)
    words = device_ssh.ssh_words(login, tty=False)
    shown = subprocess.run(
        [words[0], "-G", "-F", "none", *words[1:]], capture_output=True, text=True, check=True
    )
    lines = [line.split(" ", 1) for line in shown.stdout.splitlines() if " " in line]
    settings = dict(reversed(lines))  # of several the first
    assert settings["hostkeyalias"] == DEVICE.uuid
    assert settings["user"] == "root"
    assert settings["port"] == "22222"
    assert settings["stricthostkeychecking"] == "accept-new"
    assert settings["passwordauthentication"] == "no"
    assert settings["forwardagent"] == "no"
    assert settings["identitiesonly"] == "yes"
    assert settings["identityfile"] == str(tmp_path / "key")
    assert settings["userknownhostsfile"].replace("%%", "%").strip('"') == str(
        home / "device_hosts"
    )
    assert settings["proxycommand"] == device_ssh.proxy_command("devbots", DEVICE)


def test_the_proxy_command_survives_ssh_and_a_shell() -> None:
    line = device_ssh.proxy_command("devbots", DEVICE).replace("%%", "%")
    words = shlex.split(line)
    assert Path(words[0]).is_absolute()
    assert words[1:] == [
        *("-P", "-m", "gantry.client.tunnel_stdio"),
        *("devbots", DEVICE.uuid, "22222", DEVICE.name),
    ]


def test_fingerprints_are_those_of_ssh_keygen(tmp_path: Path) -> None:
    key = tmp_path / "key"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me at home", "-f", str(key)]
    subprocess.run(command, check=True)
    line = (tmp_path / "key.pub").read_text()
    said = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, text=True)
    print_of_it = said.stdout.split()[1]
    assert device_ssh.fingerprint(line) == print_of_it
    assert device_ssh.known_keys({"a": line, "b": "no key"}, [print_of_it]) == ["a"]
    assert device_ssh.known_keys({"a": line}, ["SHA256:other"]) == []
    assert device_ssh.fingerprint("no key") is None
    assert device_ssh.fingerprint("") is None

"""`gantry ssh`: the system's ssh through a real CONNECT proxy to a real sshd and a real engine."""

import fcntl
import json
import os
import pty
import secrets
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli.conftest import GANTRY
from tests.integration.cli.remote_world import make_key, service

# What a shell would make something else of.
WORDS = ["a b", "it's", '"$HOME"', "*", "", "-n", "tab\tnew\nline", "ünï %h", "`id`", "\\"]
PRINT = "import sys; print(sys.argv[1:])"


@pytest.fixture(scope="module")
def main(host: Any) -> Iterator[str]:
    """A service that runs on the device."""
    name = f"main-{secrets.token_hex(4)}"
    with service(host, name):
        yield name


def test_a_command_on_the_host(remote: Any) -> None:
    hostname = remote.host.run("hostname")
    assert remote.operator.run("ssh", remote.name, "--", "hostname") == hostname
    assert remote.operator.run("ssh", remote.uuid[:9], "--", "id", "-un") == "root\n"
    assert remote.tunnels.connections == 2
    (last,) = remote.operator.json("audit", "--resource", "device", "-n", "1")
    assert last["action"] in ("open tunnel", "close tunnel"), last


def test_its_code_is_the_commands(remote: Any, main: str) -> None:
    assert remote.operator.ended("ssh", remote.name, "--", "exit 7").returncode == 7
    assert remote.operator.ended("ssh", remote.name, main, "--", "exit 9").returncode == 9
    assert remote.operator.ended("ssh", remote.name, "--", "exit 255").returncode == 255
    assert remote.operator.ended("ssh", remote.name, main, "--", "false").returncode == 1
    # Engines differ in which of a shell's codes they give.
    missing = remote.operator.ended("ssh", remote.name, main, "--", "nothing-here")
    assert missing.returncode in (126, 127)


def test_words_arrive_as_they_are(remote: Any, main: str) -> None:
    for place in ((remote.name,), (remote.name, main)):
        said = remote.operator.run("ssh", *place, "--", "python3", "-c", PRINT, *WORDS)
        assert said == f"{WORDS}\n"


def test_one_word_is_a_line_for_the_shell(remote: Any, main: str) -> None:
    line = "printf '%s|' \"a  b\" $((6*7)); echo x | wc -l"
    for place in ((remote.name,), (remote.name, main)):
        assert remote.operator.run("ssh", *place, "--", line) == "a  b|42|1\n"


def test_input_and_both_outputs(remote: Any, main: str) -> None:
    content = "".join(f"{number}\n" for number in range(200_000))
    for place in ((remote.name,), (remote.name, main)):
        ended = remote.operator.ended("ssh", *place, "--", "cat; echo side >&2", stdin=content)
        assert ended.stdout == content
        assert ended.stderr == "side\n"
        # After what a host says to whoever logs in.
        said = remote.operator.run("ssh", *place, stdin="echo of a $((40+2))\n")
        assert said.endswith("of a 42\n")


def test_a_service_is_found_by_the_supervisors_labels(remote: Any, main: str) -> None:
    inside = remote.operator.run("ssh", remote.name, main, "--", "hostname").strip()
    assert inside != remote.host.run("hostname").strip()
    ended = remote.operator.ended("ssh", remote.name, "camera", "--", "true")
    assert ended.returncode == 3
    assert ended.stderr.startswith("gantry: service camera does not run here; these run: ")
    assert main in ended.stderr
    odd = remote.operator.ended("ssh", remote.name, "a'; touch /tmp/owned; '", "--", "true")
    assert odd.returncode == 3
    assert remote.host.run("ls /tmp").find("owned") == -1


def test_a_service_of_one_program_runs_commands_without_a_shell(remote: Any) -> None:
    name = f"bare-{secrets.token_hex(4)}"
    with service(remote.host, name, bare=True):
        ended = remote.operator.ended("ssh", remote.name, name, "--", "/program", "--version")
        assert ended.returncode == 0, ended.stderr
        assert "sleep" in ended.stdout
        assert remote.operator.ended("ssh", remote.name, name).returncode not in (0, 255)


class Terminal:
    """The command at a terminal of its own."""

    def __init__(self, operator: Any, columns: int, rows: int, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        self._process = subprocess.Popen(
            [*GANTRY, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=operator.variables | {"TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.seen = ""

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, text: str, seconds: float = 30) -> None:
        """Reads until it is there."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert ready, f"no {text!r} in {self.seen!r}"
            try:
                self.seen += os.read(self._master, 4096).decode(errors="replace")
            except OSError as error:
                raise AssertionError(f"no {text!r}, ended: {self.seen!r}") from error
        self.seen = self.seen.partition(text)[2]

    def end(self) -> int:
        try:
            return self._process.wait(30)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._master)


@pytest.mark.parametrize("inside", [False, True])
def test_a_shell_has_the_terminals_size_and_follows_it(
    remote: Any, main: str, inside: bool
) -> None:
    place = (remote.name, main) if inside else (remote.name,)
    terminal = Terminal(remote.operator, 101, 31, "ssh", *place)
    try:
        # The engine tells a shell its size when it has started.
        terminal.type(
            "until stty size | grep '31 101'; do sleep 0.1; done; echo $((1000+1)) $TERM\n"
        )
        terminal.expect("31 101\r\n")
        terminal.type("echo $((1000+1)) $TERM\n")
        terminal.expect("1001 xterm-256color")
        terminal.resize(87, 42)
        time.sleep(1)
        terminal.type("stty size; echo $((1000+2))\n")
        terminal.expect("42 87")
        terminal.expect("1002")
        # Ctrl-C is the shell's there, and ends nothing here.
        terminal.type("sleep 100\n")
        time.sleep(1)
        terminal.type("\x03")
        terminal.type("echo $((1000+3))\n")
        terminal.expect("1003")
        terminal.type("exit 5\n")
    finally:
        code = terminal.end()
    assert code == 5


def test_no_terminal_there_without_one_here(remote: Any, main: str) -> None:
    for place in ((remote.name,), (remote.name, main)):
        assert remote.operator.ended("ssh", *place, "--", "test -t 0").returncode == 1
        assert remote.operator.ended("ssh", *place, "--", "test -t 1").returncode == 1


def test_nothing_secret_is_on_a_command_line(remote: Any) -> None:
    token = json.loads(remote.operator.session.read_text())["token"]
    with remote.operator.running("ssh", remote.name, "--", "echo here; sleep 30") as process:
        assert process.stdout.readline() == "here\n"
        lines = [
            path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            for path in Path("/proc").glob("[0-9]*/cmdline")
        ]
        ours = [each for each in lines if remote.uuid in each]
        assert any("ProxyCommand=" in each for each in ours), ours
        assert any(" gantry.client.tunnel_stdio " in each for each in ours), ours
        assert not [each for each in lines if token in each]


def test_a_key_that_the_device_does_not_take(remote: Any, tmp_path: Path) -> None:
    remote.host.let_in(None)
    ended = remote.operator.ended("ssh", remote.name, "--", "true")
    assert ended.returncode == 1
    assert "though your key is in your account" in ended.stderr
    other, _ = make_key(tmp_path)
    ended = remote.operator.ended("ssh", remote.name, "-i", str(other), "--", "true")
    assert ended.returncode == 4
    assert f"`gantry key add {other}.pub`" in ended.stderr
    missing = remote.operator.ended("ssh", remote.name, "-i", str(tmp_path / "no"), "--", "true")
    assert missing.returncode == 3


def test_a_key_that_is_not_in_the_account(remote: Any) -> None:
    remote.host.let_in(None)
    (key,) = remote.operator.json("key", "list")
    remote.operator.run("key", "rm", str(key["id"]))
    try:
        ended = remote.operator.ended("ssh", remote.name, "--", "true")
    finally:
        public = remote.operator.home / ".ssh" / "id_ed25519.pub"
        remote.operator.run("key", "add", str(public))
    assert ended.returncode == 4
    assert "none of your SSH keys is in your account" in ended.stderr
    assert "`gantry key add`" in ended.stderr


def test_a_key_of_the_agent(remote: Any, tmp_path: Path) -> None:
    home = remote.operator.home / ".ssh"
    hidden = tmp_path / "hidden"
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    home.rename(hidden)
    try:
        while not socket.exists():
            time.sleep(0.05)
        remote.operator.environment["SSH_AUTH_SOCK"] = str(socket)
        environment = remote.operator.variables
        subprocess.run(["ssh-add", "-q", hidden / "id_ed25519"], env=environment, check=True)
        assert remote.operator.run("ssh", remote.name, "--", "echo in") == "in\n"
    finally:
        hidden.rename(home)
        agent.terminate()
        agent.wait()


def test_a_host_key_that_has_changed_is_refused(remote: Any) -> None:
    remote.operator.run("ssh", remote.name, "--", "true")
    known = remote.operator.session.parent / "device_hosts"
    (line,) = [each for each in known.read_text().splitlines() if "ed25519" in each]
    assert line.split()[0] == remote.uuid
    before = known.read_text()
    _, other = make_key(remote.operator.home / "other", secrets.token_hex(4))
    known.write_text(f"{remote.uuid} {' '.join(other.split()[:2])}\n")
    try:
        ended = remote.operator.ended("ssh", remote.name, "--", "echo in")
    finally:
        known.write_text(before)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "Host key verification failed" in ended.stderr
    assert str(known) in ended.stderr


def test_why_there_is_no_way_is_said_once(remote: Any) -> None:
    remote.tunnels.vanish(remote.uuid)
    ended = remote.operator.ended("ssh", remote.name, "--", "true")
    assert ended.returncode == 5
    told = [each for each in ended.stderr.splitlines() if each.startswith("gantry: ")]
    assert len(told) == 1
    assert "is not connected to the VPN at this moment" in told[0]
    remote.tunnels.come(remote.uuid, remote.key, remote.host.address)
    remote.tunnels.leave(remote.uuid)
    ended = remote.operator.ended("ssh", remote.name, "--", "true")
    assert ended.returncode == 5
    assert ended.stderr.startswith(f"gantry: {remote.name} cannot be reached: it is not connected")

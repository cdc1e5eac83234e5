"""gantry-vpn-server with the real openssl: keys, profiles, and who has one."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "roles" / "vpn_server" / "files" / "gantry_vpn_server.py"
# Debian's openvpn is on devices, not where unit tests run; it only makes a random key here.
OPENVPN = """\
#!/bin/sh
[ "$1 $2" = "--genkey tls-crypt" ] || exit 1
printf -- '-----BEGIN OpenVPN Static key V1-----\\n%s\\n-----END OpenVPN Static key V1-----\\n' \
    "$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n')" > "$3"
"""


class Server:
    """The program with folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "state" / "vpn-server"
        settings = folder / "gantry.conf"
        settings.write_text("port 1195\nproto tcp-server\n")
        programs = folder / "bin"
        programs.mkdir()
        for name, text in (("openvpn", OPENVPN), ("systemctl", "#!/bin/sh\n")):
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self._environment = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "GANTRY_VPN_SERVER": str(self.state),
            "GANTRY_VPN_SERVER_SETTINGS": str(settings),
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, PROGRAM, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def out(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def refused(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        return line.removeprefix("gantry-vpn-server: ")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def between(text: str, tag: str) -> str:
    return text.split(f"<{tag}>\n")[1].split(f"</{tag}>")[0]


def test_keys_are_made_once_and_are_roots_alone(server: Server) -> None:
    assert server.out("init") == f"made the keys of the VPN server in {server.state}\n"
    modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in server.state.iterdir()}
    assert modes == {
        "ca.crt": 0o600,
        "ca.key": 0o600,
        "revoked": 0o755,
        "server.crt": 0o600,
        "server.key": 0o600,
        "tls-crypt.key": 0o600,
    }
    assert stat.S_IMODE(server.state.stat().st_mode) == 0o711
    key = (server.state / "ca.key").read_text()
    assert server.out("init") == f"{server.state} has the server's keys already\n"
    assert (server.state / "ca.key").read_text() == key


def test_nothing_is_left_of_keys_that_could_not_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "bin" / "openvpn").write_text("#!/bin/sh\necho no entropy >&2; exit 1\n")
    assert server.refused("init") == "openvpn failed: no entropy"
    assert list(server.state.parent.iterdir()) == []
    # As a power loss leaves it.
    (server.state.parent / ".vpn-server.x").mkdir()
    (tmp_path / "bin" / "openvpn").write_text(OPENVPN)
    server.out("init")
    assert [each.name for each in server.state.parent.iterdir()] == ["vpn-server"]


def test_a_profile_has_all_that_a_client_needs(server: Server, tmp_path: Path) -> None:
    server.out("init")
    profile = server.out("client", "laptop", "--remote", "robot.example.com")
    assert "remote robot.example.com 1195\n" in profile
    assert "proto tcp\n" in profile
    files = {name: tmp_path / name for name in ("ca", "cert", "key")}
    for name, path in files.items():
        path.write_text(between(profile, name))
    checked = subprocess.run(
        ["openssl", "verify", "-purpose", "sslclient", "-CAfile", files["ca"], files["cert"]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert checked.stdout == f"{files['cert']}: OK\n"
    of_key, of_certificate = (
        subprocess.run(command, capture_output=True, check=True).stdout
        for command in (
            ["openssl", "pkey", "-in", files["key"], "-pubout"],
            ["openssl", "x509", "-in", files["cert"], "-noout", "-pubkey"],
        )
    )
    assert of_key == of_certificate
    secret = between(profile, "key").splitlines()[1]
    kept = [each for each in server.state.rglob("*") if each.is_file()]
    assert not [each for each in kept if secret in each.read_text()]


def test_a_profile_in_a_file_is_its_owners_alone(server: Server, tmp_path: Path) -> None:
    server.out("init")
    path = tmp_path / "laptop.ovpn"
    server.out("client", "laptop", "--output", str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "PRIVATE KEY" in path.read_text()
    no_folder = tmp_path / "no" / "phone.ovpn"
    assert "No such file or directory" in server.refused(
        "client", "phone", "--output", str(no_folder)
    )
    assert "phone" not in server.out("list")


def test_a_revoked_name_may_be_given_anew(server: Server) -> None:
    server.out("init")
    server.out("client", "laptop")
    assert server.refused("client", "laptop") == (
        "laptop has a profile already: revoke it first, or take another name"
    )
    assert server.out("revoke", "laptop") == "laptop can connect no more\n"
    [serial] = [each.name for each in (server.state / "revoked").iterdir()]
    assert serial.isdecimal()
    assert server.refused("revoke", "laptop") == "laptop has no profile: nobody has"
    server.out("client", "laptop")
    states = [line.split()[0::2] for line in server.out("list").splitlines()]
    assert states == [["laptop", "revoked"], ["laptop", "valid"]]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "two words", "x" * 41, "-rf"])
def test_names_that_are_none(server: Server, name: str) -> None:
    server.out("init")
    done = server.run("client", "--", name)
    assert done.returncode == 1
    assert done.stderr.startswith(f"gantry-vpn-server: {name!r} is no name: ")


def test_before_the_first_start_it_says_how(server: Server) -> None:
    assert server.refused("client", "laptop") == (
        "the VPN server was never started: systemctl enable --now openvpn-server@gantry.service"
    )
    assert not server.state.exists()


def test_who_is_revoked_is_seen_by_openvpn_as_nobody(tmp_path: Path) -> None:
    server = Server(tmp_path)
    for closed in (server.state.parent, server.state):
        server.out("init")
        closed.chmod(0o700)
    server.out("init")
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (server.state.parent, server.state)]
    assert [mode & 0o011 for mode in modes] == [0o011, 0o011]
    assert [mode & 0o066 for mode in modes] == [0, 0]

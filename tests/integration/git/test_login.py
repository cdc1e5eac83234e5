"""Who gets in, and what they can do there."""

from pathlib import Path

import pytest
from docker.models.containers import Container

from tests.integration.git.conftest import Client, StandIn, make_client, run_in, wait_until


def test_the_right_key_logs_in_and_learns_that_there_is_no_shell(client: Client) -> None:
    end = client.ssh("-T", "")
    assert end.returncode == 1
    assert "Hello admin" in end.stderr
    assert "git remote add devbots ssh://admin@devbots.gantry.internal:2222/" in end.stderr
    assert end.stdout == ""


def test_a_wrong_key_does_not(client: Client, tmp_path: Path) -> None:
    stranger = make_client(tmp_path / "stranger", client.port)
    end = stranger.ssh("git-upload-pack 'admin/devbots.git'")
    assert end.returncode == 255
    assert "Permission denied (publickey)" in end.stderr


def test_a_key_is_good_for_its_own_user_only(client: Client) -> None:
    assert "Permission denied" in client.ssh("", user="mallory").stderr
    assert "Permission denied" in client.ssh("", user="root").stderr
    assert "Permission denied" in client.ssh("", user="_gantry").stderr


def test_a_revoked_key_is_out_at_once(client: Client, stand_in: StandIn) -> None:
    assert "Hello admin" in client.ssh("").stderr
    stand_in.keys["admin"] = []
    assert "Permission denied" in client.ssh("").stderr


def test_options_that_come_with_a_key_are_not_taken(client: Client, stand_in: StandIn) -> None:
    stand_in.keys["admin"] = [f'command="/bin/sh" {client.public_key}']
    assert "Permission denied" in client.ssh("").stderr


def test_a_new_user_can_log_in_soon(client: Client, stand_in: StandIn) -> None:
    stand_in.keys["grace"] = [client.public_key]
    stand_in.accounts.append("grace")
    wait_until(lambda: "Hello grace" in client.ssh("", user="grace").stderr)
    stand_in.accounts.remove("grace")
    wait_until(lambda: "Permission denied" in client.ssh("", user="grace").stderr)


def test_accounts_are_asked_for_with_their_etag(client: Client, stand_in: StandIn) -> None:
    del stand_in.accounts_answers[:]
    wait_until(lambda: stand_in.accounts_answers[-2:] == [304, 304])


@pytest.mark.parametrize(
    "command",
    [
        "ls",
        "/bin/sh",
        "git-upload-archive 'admin/devbots.git'",
        "git-shell",
        "scp -t /tmp",
        "id;id",
    ],
)
def test_other_commands_are_refused_with_a_sentence(client: Client, command: str) -> None:
    end = client.ssh(command)
    assert end.returncode == 1
    assert "is not offered: this server only takes git push and git pull" in end.stderr
    assert end.stdout == ""


def test_sftp_is_refused(client: Client) -> None:
    assert "subsystem request failed" in client.ssh("-s", "sftp").stderr


def test_a_terminal_is_refused(client: Client) -> None:
    end = client.ssh("-tt", "")
    assert "PTY allocation request failed" in end.stderr


def test_forwarding_to_a_port_is_refused(client: Client) -> None:
    end = client.ssh("-W", "127.0.0.1:2222", "")
    assert end.returncode == 255
    assert "administratively prohibited" in end.stderr


def test_forwarding_from_a_port_is_refused(client: Client) -> None:
    end = client.ssh("-o", "ExitOnForwardFailure=yes", "-N", "-R", "0:127.0.0.1:9", "")
    assert end.returncode == 255
    assert "remote port forwarding failed" in end.stderr


def test_sshd_allows_nothing_else(container: Container) -> None:
    lines = set(run_in(container, "/usr/sbin/sshd -T -f /etc/gantry/sshd_config").splitlines())
    assert lines >= {
        "allowagentforwarding no",
        "allowstreamlocalforwarding no",
        "allowtcpforwarding no",
        "authenticationmethods publickey",
        "disableforwarding yes",
        "kbdinteractiveauthentication no",
        "passwordauthentication no",
        "permitrootlogin no",
        "permittty no",
        "permittunnel no",
        "permituserenvironment no",
        "permituserrc no",
        "x11forwarding no",
    }
    assert {line for line in lines if line.startswith("acceptenv")} == {"acceptenv GIT_PROTOCOL"}
    assert not [line for line in lines if line.startswith("subsystem")]


def test_passwords_are_not_asked_for(client: Client) -> None:
    end = client.ssh("-v", "-o", "PubkeyAuthentication=no", "")
    assert "Permission denied (publickey)" in end.stderr


def test_nothing_runs_as_root_or_with_capabilities(container: Container, client: Client) -> None:
    assert "Hello" in client.ssh("").stderr
    status = run_in(container, "cat /proc/[0-9]*/status")
    uids = {line.split(None, 1)[1] for line in status.splitlines() if line.startswith("Uid:")}
    capabilities = {line.split()[1] for line in status.splitlines() if line.startswith("CapEff")}
    assert uids == {"10001\t10001\t10001\t10001"}
    assert capabilities == {"0" * 16}


def test_the_container_is_healthy(container: Container) -> None:
    end = container.exec_run(["python3", "-m", "gantry.git", "health"])
    assert (end.exit_code, end.output) == (0, b"healthy\n")

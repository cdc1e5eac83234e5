"""The marked blocks: OpenSSH itself reads what we write, and nothing else in the files changes."""

import os
import subprocess
from pathlib import Path

import pytest

from gantry.deployment import hosts, marked_block, ssh_config

HOSTS = "127.0.0.1 localhost\n\n# mine\n10.0.0.1 printer"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqdOXkRRtoiHjYt3ZDEeAjrTzyfAAFEbWuHNZJ2Z1gN comment"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GANTRY_CONFIG_HOME", str(tmp_path / "gantry"))
    folder = tmp_path / ".ssh"
    folder.mkdir(mode=0o700)
    return folder


def effective(config: Path, host: str) -> dict[str, str]:
    """What OpenSSH would do, as `ssh -G` says it."""
    output = subprocess.run(
        ["ssh", "-G", "-F", str(config), host], check=True, capture_output=True, text=True
    ).stdout
    return dict(line.split(" ", 1) for line in output.splitlines() if " " in line)


def test_blocks_of_two_fleets_live_side_by_side_and_leave_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(HOSTS)
    path.chmod(0o640)
    assert hosts.add("devbots", "devbots.gantry.internal", path=path)
    assert hosts.add("testingbots", "testingbots.gantry.internal", path=path)
    text = path.read_text()
    assert text.startswith(HOSTS + "\n")
    assert "127.0.0.1 devbots.gantry.internal api.devbots.gantry.internal registry." in text
    assert not hosts.add("devbots", "devbots.gantry.internal", path=path)
    assert hosts.add("devbots", "devbots.gantry.internal", "10.1.2.3", path)
    assert path.read_text() == text.replace("127.0.0.1 devbots", "10.1.2.3 devbots")
    assert hosts.remove("devbots", path)
    assert hosts.remove("testingbots", path)
    assert not hosts.remove("testingbots", path)
    assert path.read_text() == HOSTS + "\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["hosts"]


def test_a_doubled_block_becomes_one() -> None:
    once = marked_block.with_block("a\n", "devbots", ["x"])
    doubled = once + "b\n" + once.removeprefix("a\n")
    assert marked_block.with_block(doubled, "devbots", ["y"]) == once.replace("x", "y") + "b\n"


def test_a_fleets_name_that_begins_anothers_is_another() -> None:
    text = marked_block.with_block("", "dev", ["one"])
    text = marked_block.with_block(text, "devbots", ["two"])
    assert "two" in marked_block.with_block(text, "dev", [])


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("")
    (tmp_path / "hosts").symlink_to("real")
    hosts.add("devbots", "h", path=tmp_path / "hosts")
    assert (tmp_path / "hosts").is_symlink()
    assert "127.0.0.1 h api.h" in (tmp_path / "real").read_text()


def test_openssh_reads_the_block_before_the_users_own(home: Path) -> None:
    config = home / "config"
    # A line of global scope and a catch-all that would win if ours came later.
    config.write_text("User someone\nHost *\n    Port 99\n")
    config.chmod(0o600)
    identity = ssh_config.ensure_identity(home)
    assert identity.generated
    assert ssh_config.add("devbots", "h.internal", 2222, KEY, identity=identity, home=home)
    ours = effective(config, "h.internal")
    assert ours["port"] == "2222"
    assert ours["identityfile"] == str(identity.private)
    assert ours["userknownhostsfile"] == str(ssh_config.known_hosts_path())
    assert ours["stricthostkeychecking"] in ("yes", "true")
    other = effective(config, "elsewhere")
    assert (other["port"], other["user"]) == ("99", "someone")
    assert not ssh_config.add("devbots", "h.internal", 2222, KEY, identity=identity, home=home)
    assert ssh_config.remove("devbots", "h.internal", 2222, home=home)
    assert config.read_text() == "User someone\nHost *\n    Port 99\n"
    assert ssh_config.known_hosts_path().read_text() == ""


def test_a_new_host_key_replaces_the_old_one_and_no_other(home: Path) -> None:
    ssh_config.add("a", "a.internal", 2222, KEY, home=home)
    ssh_config.add("b", "b.internal", 2223, KEY, home=home)
    ssh_config.add("a", "a.internal", 2222, KEY.replace("2Z1gN", "2Z1gM"), home=home)
    path = ssh_config.known_hosts_path()
    assert path.stat().st_mode & 0o777 == 0o600
    found = subprocess.run(
        ["ssh-keygen", "-F", "[a.internal]:2222", "-f", str(path)], capture_output=True, text=True
    ).stdout
    assert "2Z1gM" in found
    assert len(path.read_text().splitlines()) == 2


def test_a_users_own_key_is_used_and_not_named(home: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(home / "id_ecdsa")], check=True
    )
    identity = ssh_config.ensure_identity(home)
    assert (identity.private.name, identity.generated) == ("id_ecdsa", False)
    lines = ssh_config.block_lines("h", 1, Path("k"), identity)
    assert not [line for line in lines if "IdentityFile" in line]


def test_a_folder_that_takes_no_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ssh_config.IdentityError, match="none could be made"):
        ssh_config.ensure_identity(tmp_path / "file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_without_root_and_sudo_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(marked_block.WriteError, match="run as root"):
        hosts.add("devbots", "h", path=tmp_path / "hosts")

"""Host keys that a power loss cannot take away, and the keys of config.json."""

import json
import os
import subprocess
from pathlib import Path

import pytest

FILES = Path(__file__).parents[3] / "roles" / "remote_access" / "files"


def new_key(path: Path, kind: str = "ed25519") -> str:
    """A key pair; its public line."""
    make = ["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "somebody", "-f", str(path)]
    subprocess.run(make, check=True)
    return path.with_name(f"{path.name}.pub").read_text().strip()


def run_hook(folder: Path, config: object, **more: str) -> subprocess.CompletedProcess[str]:
    told = folder / "config.json"
    told.write_text(json.dumps(config))
    environment = os.environ | {"GANTRY_CONFIG": str(told), "GANTRY_SSH": str(folder / "ssh")}
    environment |= more
    return subprocess.run(
        [FILES / "ssh_keys.py"], env=environment, capture_output=True, text=True, check=False
    )


def let_in(folder: Path) -> list[str]:
    return (folder / "ssh/authorized_keys").read_text().splitlines()


def test_keys_of_config_json_are_let_in_and_said_once(tmp_path: Path) -> None:
    key, other = new_key(tmp_path / "a"), new_key(tmp_path / "b", "ecdsa")
    config = {"os": {"sshKeys": [key, f"  {other}\n"]}}
    first = run_hook(tmp_path, config)
    assert (first.returncode, first.stdout, first.stderr) == (
        0,
        "ssh: 2 keys of config.json may log in\n",
        "",
    )
    assert let_in(tmp_path) == [key, other]
    assert (tmp_path / "ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    again = run_hook(tmp_path, config)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_a_key_that_is_taken_away_is_let_in_no_more(tmp_path: Path) -> None:
    run_hook(tmp_path, {"os": {"sshKeys": [new_key(tmp_path / "a")]}})
    gone = run_hook(tmp_path, {})
    assert gone.stdout == "ssh: 0 keys of config.json may log in\n"
    assert let_in(tmp_path) == []


@pytest.mark.parametrize(
    "wrong",
    [
        "no key at all",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIshort",
        'command="/bin/sh" {key}',
        "{key}\nssh-ed25519 AAAA smuggled",
        "ssh-ed25519",
        "",
        7,
        None,
    ],
)
def test_what_is_no_key_is_named_and_the_others_count(tmp_path: Path, wrong: object) -> None:
    key = new_key(tmp_path / "a")
    text = wrong.format(key=key) if isinstance(wrong, str) else wrong
    done = run_hook(tmp_path, {"os": {"sshKeys": [text, key]}})
    assert done.returncode == 1
    assert done.stderr == "os.sshKeys: entry 1 is no public key of OpenSSH\n"
    assert let_in(tmp_path) == [key]


def test_a_text_in_the_place_of_the_list(tmp_path: Path) -> None:
    done = run_hook(tmp_path, {"os": {"sshKeys": new_key(tmp_path / "a")}})
    assert done.returncode == 1
    assert done.stderr == 'os.sshKeys is no list: write it as ["ssh-ed25519 …"]\n'
    assert not (tmp_path / "ssh/authorized_keys").exists()


def test_a_missing_state_partition_is_said_and_its_folder_stays_empty(tmp_path: Path) -> None:
    config = {"os": {"sshKeys": [new_key(tmp_path / "a")]}}
    done = run_hook(tmp_path, config, GANTRY_STATE_MISSING="1")
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "os.sshKeys: the state partition is not mounted: these keys may not log in\n",
    )
    assert not (tmp_path / "ssh").exists()
    # Nothing is asked for, so nothing is wrong.
    none = run_hook(tmp_path, {}, GANTRY_STATE_MISSING="1")
    assert (none.returncode, none.stdout, none.stderr) == (0, "", "")


def test_a_state_partition_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    # Root may write to any folder that is not on a read-only file system; to a file's none.
    (tmp_path / "file").touch()
    config = {"os": {"sshKeys": [new_key(tmp_path / "a")]}}
    done = run_hook(tmp_path, config, GANTRY_SSH=str(tmp_path / "file/ssh"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"os.sshKeys: {tmp_path}/file/ssh/authorized_keys cannot be written (Not a directory): "
        "who may log in stays as it was\n"
    )


def make_host_keys(folder: Path, run: Path | None = None) -> str:
    run = run or folder.parent
    done = subprocess.run(
        [FILES / "ssh_host_keys.sh"],
        env=os.environ | {"GANTRY_SSH": str(folder), "GANTRY_RUN": str(run)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def host_keys(folder: Path) -> dict[str, str]:
    return {each.name: each.read_text() for each in folder.iterdir()}


NAMES = {
    "ssh_host_ecdsa_key",
    "ssh_host_ecdsa_key.pub",
    "ssh_host_ed25519_key",
    "ssh_host_ed25519_key.pub",
}


def test_host_keys_are_made_once(tmp_path: Path) -> None:
    folder = tmp_path / "gantry/ssh"
    said = make_host_keys(folder)
    assert said.count("a new host key: 256 SHA256:") == 2
    made = host_keys(folder)
    assert made.keys() == NAMES
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "ssh_host_ed25519_key").stat().st_mode & 0o777 == 0o600
    assert make_host_keys(folder) == ""
    assert host_keys(folder) == made


def test_a_state_partition_that_cannot_be_written_does_not_lock_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    run = tmp_path / "run"
    make_host_keys(tmp_path / "file/ssh", run)
    assert host_keys(run / "ssh").keys() == NAMES
    assert (run / "ssh-host-keys.conf").read_text().splitlines() == [
        f"HostKey {run}/ssh/ssh_host_ed25519_key",
        f"HostKey {run}/ssh/ssh_host_ecdsa_key",
    ]
    assert run.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("half", ["", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNz"])
def test_half_a_host_key_is_made_anew_and_the_other_stays(tmp_path: Path, half: str) -> None:
    folder = tmp_path / "ssh"
    make_host_keys(folder)
    made = host_keys(folder)
    (folder / "ssh_host_ed25519_key").write_text(half)
    (folder / "new").write_text("of another time")
    assert "ED25519" in make_host_keys(folder)
    again = host_keys(folder)
    assert again.keys() == NAMES
    assert again["ssh_host_ecdsa_key"] == made["ssh_host_ecdsa_key"]
    assert again["ssh_host_ed25519_key"] not in ("", half, made["ssh_host_ed25519_key"])
    check = ["ssh-keygen", "-y", "-f", str(folder / "ssh_host_ed25519_key")]
    public = subprocess.run(check, capture_output=True, text=True, check=True).stdout
    assert public.split()[:2] == again["ssh_host_ed25519_key.pub"].split()[:2]

"""The lines for sshd."""

import pytest

from gantry.git.keys import authorized_lines

BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIEd5"


def lines(key: str) -> list[str]:
    return list(authorized_lines("ada", [key]))


@pytest.mark.parametrize("key", [f"ssh-ed25519 {BLOB}", f" ssh-ed25519  {BLOB} ada@home, x\n"])
def test_type_and_key_and_no_comment(key: str) -> None:
    assert lines(key) == [f'restrict,command="gantry-git ada" ssh-ed25519 {BLOB}']


@pytest.mark.parametrize(
    "key",
    [
        "",
        "# a comment",
        f'command="sh" ssh-ed25519 {BLOB}',
        f"no-pty ssh-ed25519 {BLOB}",
        f"ssh-dss {BLOB}",
        f"cert-authority ssh-ed25519 {BLOB}",
        "ssh-ed25519 nokey",
        "ssh-ed25519",
        f"ssh-ed25519 {BLOB}\nssh-rsa {BLOB}",
    ],
)
def test_anything_else_is_left_out(key: str) -> None:
    assert lines(key) == []

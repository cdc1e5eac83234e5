"""The script `resolver`: whom gantry-dns asks, and that the host asks gantry-dns."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "roles" / "network" / "files" / "resolver"
LINK = "../run/gantry/dns/resolv.conf"
NETWORK = "resolv-file={root}/run/NetworkManager/no-stub-resolv.conf\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *arguments],
        env={**os.environ, "GANTRY_ROOT": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )


def upstream(root: Path) -> str:
    done = run(root, "upstream")
    assert (done.returncode, done.stderr) == (0, "")
    return (root / "run/gantry/dns/upstream.conf").read_text()


def test_without_anything_networkmanager_s_servers_are_asked(root: Path) -> None:
    assert upstream(root) == NETWORK.format(root=root)
    # dnsmasq does not start without the folder.
    assert (root / "run/NetworkManager").is_dir()


def test_servers_of_before_are_asked_too(root: Path) -> None:
    (root / "etc/resolv.conf").write_text(
        "search site\nnameserver 192.0.2.1\n"
        "  nameserver\t2001:db8::1 # second\n#nameserver 8.8.8.8\n"
    )
    found = NETWORK.format(root=root) + "server=192.0.2.1\nserver=2001:db8::1\n"
    assert upstream(root) == found
    # They are known as long as the host is up, though resolv.conf is ours by now.
    assert run(root, "claim").returncode == 0
    assert upstream(root) == found


def test_systemd_resolved_s_servers_are_asked_and_not_itself(root: Path) -> None:
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.53\n")
    (root / "run/systemd/resolve").mkdir(parents=True)
    (root / "run/systemd/resolve/resolv.conf").write_text("nameserver 192.0.2.9\n")
    assert upstream(root).endswith("server=192.0.2.9\n")


def test_it_never_asks_itself(root: Path) -> None:
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.2\n")
    assert upstream(root) == NETWORK.format(root=root)


def test_the_operator_s_servers_are_asked_alone(root: Path) -> None:
    (root / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    (root / "run/gantry/dns").mkdir(parents=True)
    (root / "run/gantry/dns/preferred.conf").write_text("server=1.1.1.1\n")
    assert upstream(root) == "no-resolv\nserver=1.1.1.1\n"


@pytest.mark.parametrize("before", ["file", "link", "dangling link", "nothing"])
def test_resolv_conf_leads_to_it(root: Path, before: str) -> None:
    path = root / "etc/resolv.conf"
    if before == "file":
        path.write_text("nameserver 192.0.2.1\n")
    elif before != "nothing":
        path.symlink_to("other")
        if before == "link":
            (root / "etc/other").write_text("nameserver 192.0.2.1\n")
    upstream(root)
    for _ in range(2):
        assert run(root, "claim").returncode == 0
        assert os.readlink(path) == LINK
        assert "nameserver 127.0.0.2" in path.read_text()
    assert sorted(each.name for each in (root / "etc").iterdir() if each.name != "other") == [
        "resolv.conf"
    ]


@pytest.mark.parametrize("left", [None, ""])
def test_at_the_next_boot_the_link_is_there_and_run_is_new(root: Path, left: str | None) -> None:
    """Where the link leads, a container's engine may have left an empty file."""
    path = root / "etc/resolv.conf"
    upstream(root)
    assert run(root, "claim").returncode == 0
    shutil.rmtree(root / "run")
    if left is not None:
        (root / "run/gantry/dns").mkdir(parents=True)
        (root / "run/gantry/dns/resolv.conf").write_text(left)
    upstream(root)
    assert run(root, "claim").returncode == 0
    assert os.readlink(path) == LINK
    assert "nameserver 127.0.0.2" in path.read_text()


def test_another_word_is_refused(root: Path) -> None:
    done = run(root, "listen")
    assert (done.returncode, done.stderr) == (2, "usage: resolver upstream|claim\n")

"""Which security updates a base gets, from a mirror that is whole, in between, or away."""

import hashlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gantry.builder import mirror

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
USUAL = "bookworm-security"
OTHER = "oldstable-security"


class Archive:
    """A mirror's folder, served on the loopback."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def state(
        self,
        name: str,
        day: datetime,
        packages: str,
        *,
        listed: str | None = None,
        suite: str = OTHER,
        codename: str = USUAL,
    ) -> None:
        """`dists/<name>` as of `day`: its index names the list `listed`, there is `packages`."""
        folder = self.root / "dists" / name / "main" / "binary-armhf"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "Packages.xz").write_text(packages)
        digest = hashlib.sha256((packages if listed is None else listed).encode()).hexdigest()
        (folder.parent.parent / "InRelease").write_text(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n"
            f"Origin: Debian\nSuite: {suite}\nCodename: {codename}\n"
            f"Date: {format_datetime(day).replace('+0000', 'UTC')}\n"
            "Architectures: amd64 arm64 armhf\nMD5Sum:\n"
            f" {'0' * 32} 1 main/binary-armhf/Packages.xz\nSHA256:\n"
            f" {digest} 1 main/binary-armhf/Packages.xz\n"
            "-----BEGIN PGP SIGNATURE-----\n\nabc=\n-----END PGP SIGNATURE-----\n"
        )


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(mirror, "SECURITY_MIRROR", f"http://127.0.0.1:{server.server_port}")
    yield Archive(tmp_path)
    server.shutdown()
    server.server_close()


def security(arch: str = "armhf") -> mirror.Security:
    return mirror.security_of("bookworm", arch, NOW)


def usual() -> str:
    return f"deb {mirror.SECURITY_MIRROR} {USUAL} main"


def test_a_whole_mirror_gives_its_newest_state(archive: Archive) -> None:
    archive.state(USUAL, NOW, "new")
    archive.state(OTHER, NOW - timedelta(days=20), "old")
    assert security() == mirror.Security(usual(), current=True)


def test_in_between_the_last_whole_state_is_taken_and_said(archive: Archive) -> None:
    archive.state(USUAL, NOW, "old", listed="new")
    archive.state(OTHER, NOW - timedelta(days=20), "old")
    found = security()
    # apt itself refuses what is older than a month.
    assert found.source == f"deb [valid-until-min=2592000] {mirror.SECURITY_MIRROR} {OTHER} main"
    assert (found.state, found.current) == ("2026-11-01", False)
    assert "security updates up to 2026-11-01" in found.warning
    assert "release n=bookworm-security" in found.preferences


@pytest.mark.parametrize(
    ("age", "other"),
    [
        (31, {"packages": "old"}),
        (20, {"packages": "old", "listed": "something else"}),
        (20, {"packages": "old", "codename": "trixie-security"}),
    ],
    ids=["too old", "not whole either", "of another Debian"],
)
def test_no_other_state_is_taken(archive: Archive, age: int, other: dict[str, str]) -> None:
    archive.state(USUAL, NOW, "old", listed="new")
    archive.state(OTHER, NOW - timedelta(days=age), **other)
    assert security() == mirror.Security(usual())


@pytest.mark.parametrize("suite", [USUAL, "x main [trusted=yes]", "../../x", "gone"])
def test_an_unchecked_name_becomes_no_source(archive: Archive, suite: str) -> None:
    archive.state(USUAL, NOW, "old", listed="new", suite=suite)
    assert security() == mirror.Security(usual())


def test_an_architecture_without_security_updates_is_said(archive: Archive) -> None:
    archive.state(USUAL, NOW, "new")
    found = security("armel")
    assert found.source == usual()
    assert "no security updates of bookworm for armel" in found.warning


@pytest.mark.parametrize("index", [None, "<html>a portal</html>", "Suite: x\nDate: never\n"])
def test_a_mirror_that_is_away_is_left_to_apt(archive: Archive, index: str | None) -> None:
    if index is not None:
        (archive.root / "dists" / USUAL).mkdir(parents=True)
        (archive.root / "dists" / USUAL / "InRelease").write_text(index)
    assert security() == mirror.Security(usual())

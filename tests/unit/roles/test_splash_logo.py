"""Hook 60-splash and our own logo: which PNGs are shown."""

import importlib.util
import struct
import zlib
from pathlib import Path
from types import ModuleType

import pytest

FILES = Path(__file__).parents[3] / "roles" / "splash" / "files"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FILES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 6, interlaced: int = 0, rows: int = -1
) -> bytes:
    """A black PNG; `rows` are those that are really in it."""
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    row = b"\0" * ((width * channels * depth + 7) // 8 + 1)
    picture = zlib.compress(row * (height if rows < 0 else rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = ((b"IHDR", header), (b"IDAT", picture), (b"IEND", b""))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The hook, on a device without an initramfs."""
    module = load("splash_hook")
    monkeypatch.setattr(module, "WANTED", tmp_path / "boot" / "splash" / "resin-logo.png")
    monkeypatch.setattr(module, "THEME", tmp_path / "theme")
    monkeypatch.setattr(module, "SHOWN", tmp_path / "state" / "logo.png")
    monkeypatch.setattr(module.shutil, "which", lambda _name: None)
    module.THEME.mkdir()
    (module.THEME / "logo.png").write_bytes(png(2, 2))
    return module


def said(hook: ModuleType, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = hook.main()
    output = capsys.readouterr()
    return status, output.out.strip(), output.err.strip()


def test_our_own_logo_is_put_there_to_be_replaced(
    hook: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert said(hook, capsys) == (0, "", "")
        assert hook.WANTED.read_bytes() == png(2, 2)
        assert not hook.SHOWN.exists()


def test_another_logo_is_shown_until_it_goes(
    hook: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    hook.main()
    hook.WANTED.write_bytes(png(640, 480))
    assert said(hook, capsys) == (0, "splash: the logo of the boot partition", "")
    assert hook.SHOWN.read_bytes() == png(640, 480)
    assert said(hook, capsys) == (0, "", "")
    hook.WANTED.unlink()
    assert said(hook, capsys) == (0, "splash: our own logo", "")
    assert not hook.SHOWN.exists()


def test_a_logo_that_cannot_be_shown_is_named(
    hook: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    hook.main()
    hook.WANTED.write_bytes(png(640, 480))
    hook.main()
    capsys.readouterr()
    hook.WANTED.write_bytes(b"JFIF")
    status, output, error = said(hook, capsys)
    assert (status, output) == (0, "splash: our own logo")
    assert error == f"splash: {hook.WANTED}: it is no PNG file; our own logo is shown instead"


@pytest.mark.parametrize(
    "data",
    [
        png(1, 1),
        png(3840, 2160, colour=0),
        png(100, 100, depth=1, colour=3),
        png(33, 17, depth=16, colour=2),
        png(16, 16, colour=4),
    ],
)
def test_what_is_shown(hook: ModuleType, data: bytes) -> None:
    hook.check(data)


def test_an_interlaced_picture_is_shown(hook: ModuleType) -> None:
    """Its rows are those of seven smaller pictures: here the first two of 8x8 pixels."""
    data = png(8, 8, colour=0, interlaced=1, rows=0)
    sizes = ((1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4))
    picture = zlib.compress(b"".join(b"\0" * (width + 1) * height for width, height in sizes))
    old = zlib.compress(b"")
    at = data.index(b"IDAT") - 4
    chunk = struct.pack(">I", len(picture)) + b"IDAT" + picture
    chunk += struct.pack(">I", zlib.crc32(b"IDAT" + picture))
    hook.check(data[:at] + chunk + data[at + 12 + len(old) :])


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "it is no PNG file"),
        (b"\x89PNG\r\n\x1a\n", "its header is not a PNG's"),
        (png(64, 64)[:-4], "it ends in the middle"),
        (png(64, 64)[:-16] + b"\0" * 16, "it ends in the middle|it is damaged"),
        (png(5000, 10), "it is 5000x10: at most 4096x4096"),
        (png(4096, 4096, depth=1, colour=0), "16777216 pixels: at most 8294400"),
        (png(0, 10), "it is 0x10"),
        (png(64, 64, colour=5), "its header is not a PNG's"),
        (png(64, 64, depth=3), "its header is not a PNG's"),
        (png(64, 64, rows=10), "its picture is not as large as its header says"),
        (png(64, 64, rows=10_000), "its picture is not as large as its header says"),
    ],
)
def test_what_is_not_shown(hook: ModuleType, data: bytes, complaint: str) -> None:
    with pytest.raises(hook.NoLogoError, match=complaint):
        hook.check(data)


def test_our_logo_is_what_its_program_draws(hook: ModuleType) -> None:
    data = (FILES / "logo.png").read_bytes()
    hook.check(data)
    drawing = load("draw_logo")
    picture = b"".join(body for kind, body in hook.chunks(data) if kind == b"IDAT")
    rows = zlib.decompress(picture)
    width = 4 * drawing.WIDTH
    drawn = drawing.pixels()
    assert rows == b"".join(b"\0" + drawn[at : at + width] for at in range(0, len(drawn), width))

"""Headers of tar archives as several programs write them: taken apart, and the same again."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Literal

import pytest

from gantry.deltas.format import BLOCK, DeltaError
from gantry.deltas.headers import SHAPE_LENGTH, Header, build, parse, read_shape

Format = Literal[0, 1, 2]


def header_of(format_: Format, **fields: object) -> bytes:
    info = tarfile.TarInfo("usr/lib/file")
    for name, value in fields.items():
        setattr(info, name, value)
    return info.tobuf(format_)[-BLOCK:]


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    "fields",
    [
        {"size": 12345, "mode": 0o4755, "uid": 33, "gid": 44, "mtime": 1_700_000_000},
        {"type": tarfile.DIRTYPE, "name": "./usr"},
        {"type": tarfile.SYMTYPE, "linkname": "../other"},
        {"type": tarfile.LNKTYPE, "linkname": "usr/lib/first"},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
        {"name": "d" * 120 + "/" + "n" * 90},
        {"uname": "root", "gname": "staff", "mode": 0o100644},
    ],
)
def test_pythons_headers_come_back(format_: Format, fields: dict[str, object]) -> None:
    block = header_of(format_, **fields)
    header = parse(block)
    assert header is not None
    assert build(header) == block
    assert read_shape(header.shape.pack()) == header.shape
    assert len(header.shape.pack()) == SHAPE_LENGTH


def test_names_are_paths_and_modes_are_bare() -> None:
    folder = header_of(tarfile.USTAR_FORMAT, name="./usr/lib", type=tarfile.DIRTYPE, mode=0o40755)
    header = parse(folder)
    assert header is not None
    assert (header.path, header.mode) == (b"usr/lib", 0o755)
    for name in ("/usr/lib", "a//b", "a/../b", "a/./b"):
        header = parse(header_of(tarfile.USTAR_FORMAT, name=name))
        assert header is not None
        assert header.shape.verbatim
        assert header.path == name.encode()


@pytest.mark.parametrize("style", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_headers_of_gnu_tar_come_back(style: str, tmp_path: Path) -> None:
    if shutil.which("tar") is None:
        pytest.skip("needs tar")
    (tmp_path / "in" / "folder").mkdir(parents=True)
    (tmp_path / "in" / "file").write_bytes(b"x" * 1000)
    (tmp_path / "in" / "folder" / "link").symlink_to("../file")
    command = ["tar", "-C", str(tmp_path / "in"), "--format", style, "-cf", "-", "."]
    content = subprocess.run(command, check=True, capture_output=True).stdout
    found = 0
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for member in archive:
            block = content[member.offset_data - BLOCK : member.offset_data]
            header = parse(block)
            assert header is not None, (style, member.name)
            assert build(header) == block
            found += 1
    assert found == 4


def test_what_is_no_header_is_not_taken_for_one() -> None:
    good = bytearray(header_of(tarfile.USTAR_FORMAT))
    for at, value in ((0, 0), (110, ord("9")), (149, ord("7")), (150, 0xFF)):
        changed = bytearray(good)
        changed[at] = value
        assert parse(bytes(changed)) is None, at
    hidden = bytearray(header_of(tarfile.USTAR_FORMAT, name="short"))
    hidden[50] = ord("x")  # behind the name's NUL: no rule would bring it back
    assert parse(bytes(hidden)) is None
    assert parse(bytes(BLOCK)) is None


@pytest.mark.parametrize(
    "changed",
    [{"size": 8**11}, {"mode": -1}, {"link": b"x" * 101}, {"path": b"x" * 300}, {"uid": 8**7}],
)
def test_fields_that_do_not_fit_are_refused(changed: dict[str, int]) -> None:
    header = parse(header_of(tarfile.USTAR_FORMAT))
    assert header is not None
    fields = {name: getattr(header, name) for name in Header.__dataclass_fields__}
    with pytest.raises(DeltaError, match="does not fit"):
        build(Header(**{**fields, **changed}))


def test_shapes_that_are_not_known_are_refused() -> None:
    header = parse(header_of(tarfile.USTAR_FORMAT))
    assert header is not None
    shape = header.shape.pack()
    for content in (b"\x07" + shape[1:], shape[:5] + b"\x08" + shape[6:], shape[:-1]):
        with pytest.raises(DeltaError, match="shape"):
            read_shape(content)

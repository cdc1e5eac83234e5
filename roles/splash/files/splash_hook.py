#!/usr/bin/python3
"""Hook: the logo of the boot partition, `splash/resin-logo.png`, is shown from the next boot on.

A file that is no PNG, or one that no screen could show, is named, and our own logo is shown. Where
there is none, ours is put there, to be replaced.
"""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

WANTED = Path(os.environ.get("GANTRY_BOOT", "/mnt/boot")) / "splash" / "resin-logo.png"
THEME = Path("/usr/share/plymouth/themes/gantry")
# The theme has a link to it: on a read-only root nothing else can be written.
SHOWN = Path("/mnt/state/gantry/splash/logo.png")
SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST_FILE = 4 * 1024 * 1024
LARGEST_SIDE = 4096
# As a picture in memory, 4 bytes each: a Pi Zero has 512 MiB.
LARGEST_PIXELS = 3840 * 2160
# Samples a pixel, by colour type; and the bit depths that each may have.
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}


class NoLogoError(ValueError):
    """A file that cannot be shown; the message says why."""


def chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """A PNG's chunks (https://www.w3.org/TR/png/#5Chunk-layout), their sums checked."""
    if not data.startswith(SIGNATURE):
        raise NoLogoError("it is no PNG file")
    found, at = [], len(SIGNATURE)
    while at < len(data):
        if at + 12 > len(data):
            raise NoLogoError("it ends in the middle")
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if at + 12 + length > len(data):
            raise NoLogoError("it ends in the middle")
        if struct.unpack_from(">I", data, at + 8 + length)[0] != zlib.crc32(kind + body):
            raise NoLogoError("it is damaged")
        found.append((kind, body))
        at += 12 + length
    return found


def check(data: bytes) -> None:
    """Refuse what is no PNG that a screen could show.

    Raises:
        NoLogoError: and why.
    """
    parts = chunks(data)
    if not parts or parts[0][0] != b"IHDR" or len(parts[0][1]) != 13:
        raise NoLogoError("its header is not a PNG's")
    width, height, depth, colour, method, filters, interlaced = struct.unpack(
        ">IIBBBBB", parts[0][1]
    )
    if depth not in DEPTHS.get(colour, ()) or method or filters or interlaced > 1:
        raise NoLogoError("its header is not a PNG's")
    if not (0 < width <= LARGEST_SIDE and 0 < height <= LARGEST_SIDE):
        raise NoLogoError(f"it is {width}x{height}: at most {LARGEST_SIDE}x{LARGEST_SIDE}")
    if width * height > LARGEST_PIXELS:
        raise NoLogoError(f"it has {width * height} pixels: at most {LARGEST_PIXELS}")
    row = (width * CHANNELS[colour] * depth + 7) // 8 + 1
    # Interlaced pictures have up to seven shorter rows for one.
    least, most = row * height, (row * height) * 2 + 8 * (height + 8)
    unpacked = zlib.decompressobj()
    try:
        picture = unpacked.decompress(b"".join(b for k, b in parts if k == b"IDAT"), most)
    except zlib.error as error:
        raise NoLogoError("its picture is damaged") from error
    if (
        len(picture) < (least if not interlaced else width * height // 8)
        or unpacked.unconsumed_tail
    ):
        raise NoLogoError("its picture is not as large as its header says")


def wanted() -> bytes:
    """The operator's logo; b'' for our own.

    Raises:
        NoLogoError: there is one that cannot be shown.
    """
    own = (THEME / "logo.png").read_bytes()
    if not WANTED.exists():
        place(WANTED, own)
        return b""
    size = WANTED.stat().st_size
    if size > LARGEST_FILE:
        raise NoLogoError(f"it has {size} bytes: at most {LARGEST_FILE}")
    data = WANTED.read_bytes()
    if data == own:
        return b""
    check(data)
    return data


def place(path: Path, data: bytes) -> bool:
    """Have a file with this content, or none; returns whether that changed anything."""
    there = path.read_bytes() if path.is_file() else b""
    if there == data:
        return False
    if not data:
        path.unlink()
        return True
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    Path(temporary).chmod(0o644)
    Path(temporary).replace(path)
    return True


def rebuild_initramfs() -> None:
    """Where plymouth starts from an initramfs it shows the logo that is in there."""
    command = ["update-initramfs", "-u", "-k", "all"]
    if os.environ.get("GANTRY_BOOTED") == "1":
        # It takes minutes on a slow board: boot does not wait for it.
        unit = ["systemd-run", "--quiet", "--collect", "--unit=gantry-splash-initramfs"]
        command = [*unit, *command]
    subprocess.run(command, check=True, capture_output=True, text=True)


def main() -> int:
    """Apply the logo."""
    problem = ""
    try:
        data = wanted()
    except NoLogoError as error:
        data, problem = b"", f"{WANTED}: {error}; our own logo is shown instead"
    changed = place(SHOWN, data)
    uses_initramfs = any(Path("/boot").glob("initrd.img-*")) and shutil.which("update-initramfs")
    if uses_initramfs and os.access(THEME, os.W_OK) and place(THEME / "custom.png", data):
        rebuild_initramfs()
        changed = True
    if changed:
        print(f"splash: {'the logo of the boot partition' if data else 'our own logo'}")
    if problem:
        print(f"splash: {problem}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, subprocess.SubprocessError) as error:
        print(f"splash: {error}", file=sys.stderr)
        sys.exit(1)

"""A layer's tar as the folder of files that an engine on overlayfs has of it.

What a layer removes is a name with `.wh.` in its tar, and a device 0:0 in the folder; a folder
whose former content is gone holds `.wh..wh..opq` in the tar and bears an attribute in the folder
(https://github.com/opencontainers/image-spec/blob/main/layer.md,
https://docs.kernel.org/filesystems/overlayfs.html). Needs root: files have their owners.
"""

import os
import shutil
import stat
import tarfile
from pathlib import Path

from gantry.client.errors import ClientError

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_OPAQUE_ATTRIBUTE = "trusted.overlay.opaque"


def extract(layer: Path, folder: Path) -> None:
    """Write the files of a layer to a folder, which is made.

    Raises:
        ClientError: it is no layer, one that leaves the folder, or cannot be written.
    """
    folder.mkdir()
    folders: list[tarfile.TarInfo] = []
    try:
        with tarfile.open(layer) as tar:
            # As it is, with every mode and owner: names are checked here. Pythons before 3.11.4
            # have no filters, and do that.
            tar.extraction_filter = lambda member, _: member
            for member in tar:
                if _is_whiteout(member, folder):
                    continue
                if member.isdir():
                    folders.append(member)
                _check(member, folder)
                _make_room(member, folder)
                tar.extract(member, folder, numeric_owner=True)
                if member.issym():
                    # An engine keeps a link's own time; Python's tarfile does not.
                    at = (member.mtime, member.mtime)
                    os.utime(folder / member.name, at, follow_symlinks=False)
        # What was written into a folder has changed its time.
        for member in reversed(folders):
            os.utime(folder / member.name, (member.mtime, member.mtime))
    except (tarfile.TarError, OSError) as error:
        raise ClientError(f"{layer.name} cannot be unpacked: {error}") from error


def _is_whiteout(member: tarfile.TarInfo, folder: Path) -> bool:
    parent, _, name = member.name.rstrip("/").rpartition("/")
    if not name.startswith(_WHITEOUT):
        return False
    place = _inside(folder, parent)
    place.mkdir(parents=True, exist_ok=True)
    if name == _OPAQUE:
        os.setxattr(place, _OPAQUE_ATTRIBUTE, b"y")
    else:
        os.mknod(place / name.removeprefix(_WHITEOUT), stat.S_IFCHR, os.makedev(0, 0))
    return True


def _make_room(member: tarfile.TarInfo, folder: Path) -> None:
    """Of one name that comes twice the later one stays; two folders become one."""
    parent, _, name = member.name.rstrip("/").rpartition("/")
    place = _inside(folder, parent) / name
    if not name or not os.path.lexists(place):
        return
    is_folder = place.is_dir() and not place.is_symlink()
    if is_folder and not member.isdir():
        shutil.rmtree(place)
    elif not is_folder:
        place.unlink()


def _check(member: tarfile.TarInfo, folder: Path) -> None:
    _inside(folder, member.name.rstrip("/").rpartition("/")[0])
    if member.islnk():
        _inside(folder, member.linkname)


def _inside(folder: Path, name: str) -> Path:
    """A path in a folder, no part of which is `..` or a symbolic link that leads out."""
    place = folder / name.lstrip("/")
    if ".." in place.parts or not place.resolve().is_relative_to(folder.resolve()):
        raise ClientError(f"a layer has the name {name!r}, which leads out of it")
    return place

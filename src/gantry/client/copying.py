"""What `gantry cp` does, as far as it is known beforehand. Pure.

Files go as tar over ssh: into a host with the host's tar, into a container with the engine's `cp`,
which works in images that hold nothing but the program. No name becomes part of a script.
"""

import posixpath
import re
from dataclasses import dataclass

from gantry.client.device_ssh import host_script, service_script
from gantry.client.errors import UsageError

# `DEVICE:PATH` or `DEVICE/SERVICE:PATH`; what begins with a dot or a slash is here.
_REMOTE = re.compile(r"(?P<device>[^/:.~][^/:]*)(?:/(?P<service>[A-Za-z0-9][\w.-]*))?:(?P<path>.*)")
IS_FOLDER, IS_FILE, IS_NOTHING = "d", "f", "n"

# $1: where to. Says what is there, and takes a tar for the folder that holds it.
_HOST_IN = """\
if [ -d "$1" ]; then echo d; d=$1
elif [ -e "$1" ]; then echo f; d=$2
else echo n; d=$2; fi
[ -d "$d" ] || { echo "gantry: there is no folder $d" >&2; exit 3; }
exec tar -C "$d" -xf -"""
# tar ends with 1 where a file, such as a log, grew meanwhile: what it was at first is here then.
_HOST_OUT = """\
[ -e "$1" ] || { echo "gantry: there is no $1" >&2; exit 3; }
p=$(readlink -f -- "$1")
tar -C "$(dirname -- "$p")" -cf - -- "$(basename -- "$p")" || [ "$?" -eq 1 ]"""
# A container may hold no program that could look: the engine does, with the first byte of a tar.
_SERVICE_IN = """\
if [ -n "$("$e" cp "$c:$1/." - 2>/dev/null | head -c 1)" ]; then echo d; d=$1
elif [ -n "$("$e" cp "$c:$1" - 2>/dev/null | head -c 1)" ]; then echo f; d=$2
else echo n; d=$2; fi
exec "$e" cp - "$c:$d\""""
_SERVICE_OUT = 'exec "$e" cp -L "$c:$1" -'


@dataclass(frozen=True, slots=True)
class Remote:
    """A path of a device; of its host, or of a service's container."""

    device: str
    service: str | None
    path: str


def parse(text: str) -> Remote | None:
    """`DEVICE:PATH` or `DEVICE/SERVICE:PATH`; None: a path here.

    Raises:
        UsageError: the path is empty or the root itself.
    """
    match = _REMOTE.fullmatch(text)
    if match is None:
        return None
    path = match["path"]
    if not path or "\0" in path or posixpath.normpath(path) in ("/", "//"):
        raise UsageError(
            f"{text!r}: name a file or folder of the device, such as DEVICE:/etc/fstab"
        )
    return Remote(match["device"], match["service"], path)


def parse_pair(source: str, destination: str) -> tuple[Remote, bool]:
    """The device's of both, and whether it is the source.

    Raises:
        UsageError: none is, or both are.
    """
    there_from, there_to = parse(source), parse(destination)
    place = there_from or there_to
    if place is None or (there_from and there_to):
        raise UsageError(
            "one of both is a device's: `gantry cp FILE DEVICE:/path`, or DEVICE/SERVICE:/path; a "
            "path here that holds a colon begins with ./"
        )
    return place, there_from is not None


def split(path: str) -> tuple[str, str]:
    """The folder that holds `path`, and its name there."""
    folder, name = posixpath.split(posixpath.normpath(path))
    return folder or ".", name


def upload_command(remote: Remote) -> str:
    """Prints a letter (a folder is there, a file, nothing), then takes a tar from its input."""
    folder, _ = split(remote.path)
    arguments = [_kept(remote.path), folder]
    if remote.service is None:
        return host_script(_HOST_IN, arguments)
    return service_script(remote.service, _SERVICE_IN, arguments)


def download_command(remote: Remote) -> str:
    """Prints a tar of the path; of what it leads to, where it is a link."""
    if remote.service is None:
        return host_script(_HOST_OUT, [_kept(remote.path)])
    return service_script(remote.service, _SERVICE_OUT, [_kept(remote.path)])


def name_there(remote: Remote, kind: str, own_name: str) -> str:
    """What an uploaded thing is called in the tar, once it is known what is there.

    Raises:
        UsageError: a folder is wanted where none is.
    """
    if kind == IS_FOLDER:
        return own_name
    if remote.path.endswith("/"):
        raise UsageError(f"{remote.device} has no folder {remote.path}")
    return split(remote.path)[1]


def _kept(path: str) -> str:
    """A path that no program takes for an option, without a slash at its end."""
    plain = posixpath.normpath(path)
    return plain if plain.startswith("/") else f"./{plain}"

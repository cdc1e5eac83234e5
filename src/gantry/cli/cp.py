"""`gantry cp`: files and folders to a device and back."""

import os
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from gantry.cli.context import FleetOption, chosen_fleet, client_of
from gantry.cli.output import say
from gantry.cli.ssh import IdentityOption
from gantry.client.errors import ClientError, NotFoundError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from gantry.cli.remote import Way
    from gantry.client.copying import Remote

_EVERY_SECONDS = 0.5


def register(app: typer.Typer) -> None:
    """Mount the command."""
    app.command(rich_help_panel="Devices from afar")(cp)


def cp(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FROM", help="A file or folder.")],
    destination: Annotated[
        str, typer.Argument(metavar="TO", help="A folder that is there, or its new name.")
    ],
    identity: IdentityOption = None,
    fleet: FleetOption = None,
) -> None:
    """Copy files and folders to a device or back.

    One of both is DEVICE:PATH (of the host) or DEVICE/SERVICE:PATH (in a service's container).
    """
    from gantry.cli import remote
    from gantry.client.copying import parse_pair, split
    from gantry.client.tree_tar import target_of

    place, is_source = parse_pair(source, destination)
    if not is_source and not Path(source).exists():
        raise NotFoundError(f"there is no {source} here")
    target = target_of(destination, split(place.path)[1]) if is_source else None
    name = chosen_fleet(ctx, fleet)
    with client_of(ctx, fleet) as client:
        found = remote.reachable(client, name, place.device)
        with remote.way(client, name, found, identity) as way:
            if target is not None:
                download(way, place, target)
            else:
                upload(way, place, Path(source))


class Progress:
    """How far a copy is; on a terminal it is shown meanwhile."""

    def __init__(self, what: str, total: int | None) -> None:
        self._what, self._total = what, total
        self._bytes = 0
        self._began = self._shown = time.monotonic()
        self._live = sys.stderr.isatty()

    def moved(self, count: int) -> None:
        """So many bytes more."""
        self._bytes += count
        now = time.monotonic()
        if self._live and now - self._shown > _EVERY_SECONDS:
            self._shown = now
            part = f" of {size(self._total)}" if self._total else ""
            sys.stderr.write(f"\r\x1b[K{self._what}: {size(self._bytes)}{part}")
            sys.stderr.flush()

    def end(self) -> None:
        """The last word."""
        seconds = max(time.monotonic() - self._began, 0.001)
        if self._live:
            sys.stderr.write("\r\x1b[K")
        rate = size(self._bytes / seconds)
        say(f"{self._what}: {size(self._bytes)} in {seconds:.1f} s ({rate}/s)")


def size(count: float) -> str:
    """`1.5 MB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def upload(way: "Way", place: "Remote", source: Path) -> None:
    """A file or folder into a device.

    Raises:
        ClientError: it could not be copied.
    """
    from gantry.client import copying, tree_tar

    own_name = source.resolve().name if source.name in ("", "..") else source.name
    progress = Progress(own_name, tree_tar.size_of(source))
    left_out: list[str] = []
    with _ssh(way, copying.upload_command(place)) as ssh:
        kind = ssh.back.readline().decode().strip()
        if kind:
            name = copying.name_there(place, kind, own_name)
            # Where the device ends it, it has said why, on stderr.
            with suppress(BrokenPipeError):
                left_out = tree_tar.write(source, name, ssh.there, progress.moved)
        ssh.end(f"{own_name} is not, or not wholly, on {place.device}")
    progress.end()
    _tell_left_out(left_out)


def download(way: "Way", place: "Remote", target: Path) -> None:
    """A file or folder of a device as `target`.

    Raises:
        ClientError: it could not be copied.
    """
    from gantry.client import copying, tree_tar

    progress = Progress(target.name, None)
    left_out: list[str] = []
    with _ssh(way, copying.download_command(place)) as ssh:
        # What comes first tells whether anything does; the reason why not is on stderr.
        first = ssh.back.peek(1)
        if first:
            left_out = tree_tar.read(ssh.back, target, progress.moved)
            while ssh.back.read(65536):
                pass  # what fills tar's last block up
        ssh.end(f"{target} is not, or not wholly, here")
    progress.end()
    _tell_left_out(left_out)


@dataclass(frozen=True, slots=True)
class _Ssh:
    """ssh, with pipes `there` and `back`."""

    child: "subprocess.Popen[bytes]"
    way: "Way"
    there: BinaryIO
    back: BufferedReader

    def end(self, otherwise: str) -> None:
        """Wait for it.

        Raises:
            ClientError: with `otherwise` in it, where it failed.
        """
        from gantry.cli import remote
        from gantry.client.device_ssh import NOT_HERE

        self.close()
        code = remote.ended(self.child.wait(), self.way)
        if code:
            kind = NotFoundError if code == NOT_HERE else ClientError
            raise kind(f"{otherwise}: the device said why above (code {code})")

    def close(self) -> None:
        """Both pipes."""
        for each in (self.there, self.back):
            with suppress(BrokenPipeError):
                each.close()


@contextmanager
def _ssh(way: "Way", command: str) -> "Iterator[_Ssh]":
    """ssh with pipes; it is gone when this is left."""
    from gantry.cli import remote
    from gantry.client.device_ssh import ssh_words

    read_there, write_there = os.pipe()
    read_back, write_back = os.pipe()
    try:
        words = [*ssh_words(way.login, tty=False), command]
        child = remote.start(words, way, stdin=read_there, stdout=write_back)
    finally:
        os.close(read_there)
        os.close(write_back)
    ssh = _Ssh(child, way, os.fdopen(write_there, "wb"), os.fdopen(read_back, "rb"))
    try:
        yield ssh
    except BaseException:
        child.kill()
        raise
    finally:
        ssh.close()
        child.wait()


def _tell_left_out(names: list[str]) -> None:
    for each in names:
        say(f"left out, for it is neither file nor folder nor link: {each}")

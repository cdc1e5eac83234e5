"""The container's first process: superintends sshd and keeps its accounts as the api has them."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import httpx2

from gantry.git import events, repository
from gantry.git.accounts import (
    Accounts,
    AccountsError,
    fetch_accounts,
    render_passwd,
    unusable,
    write_atomically,
)
from gantry.git.config import GitConfig
from gantry.git.places import HOST_KEY, Places
from gantry.git.settings import REPOSITORIES, SettingsError

SSHD = ["/usr/sbin/sshd", "-D", "-e", "-f", "/etc/gantry/sshd_config"]
SYNC_SECONDS = 2.0
STOP_SECONDS = 4.0


def log(line: str) -> None:
    """One event of the container's log."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def install_host_key(source: Path, target: Path) -> None:
    """Copies the host key for sshd, which refuses one that its uid does not have for itself.

    Raises:
        SettingsError: there is none, or it cannot be read.
    """
    try:
        target.unlink(missing_ok=True)
        with open(target, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as copy:
            copy.write(source.read_bytes())
    except OSError as error:
        raise SettingsError(f"host key {source}: {error.strerror} ({error.filename})") from error


class Syncer:
    """Keeps the accounts' file, the banner and the sign of life up to date."""

    def __init__(self, client: httpx2.Client, places: Places) -> None:
        self._client = client
        self._places = places
        self._known = Accounts()
        self._failure: str | None = None

    def turn(self) -> None:
        """Asks once. What goes wrong is logged when it begins and when it ends."""
        try:
            accounts = fetch_accounts(self._client, self._known)
        except AccountsError as error:
            self._fail(str(error))
        else:
            self._succeed(accounts)

    def _succeed(self, accounts: Accounts) -> None:
        if accounts is not self._known:
            write_atomically(self._places.accounts, render_passwd(accounts.names))
            left_out = unusable(accounts.names)
            log(
                f"accounts: {len(accounts.names) - len(left_out)}"
                + (f"; not usable as login names: {', '.join(left_out)}" if left_out else "")
            )
            self._known = accounts
        if self._failure is not None:
            log("accounts: the api answers again")
        self._failure = None
        self._places.banner.unlink(missing_ok=True)
        write_atomically(self._places.synced, f"{time.time():.0f}\n")

    def _fail(self, reason: str) -> None:
        if self._failure is None:
            log(f"accounts: not updated: {reason}")
            write_atomically(
                self._places.banner,
                "gantry: the fleet's api does not answer, so nobody can log in:\n"
                "gantry: try again in a moment; if it lasts, tell the fleet's operator.\n",
            )
        self._failure = reason
        if self._places.synced.exists():
            os.utime(self._places.synced)


class Sshd:
    """The sshd process, and its end seen among the ends of all children that are ours to reap."""

    def __init__(self, command: list[str]) -> None:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, writer, 1), (os.POSIX_SPAWN_DUP2, writer, 2)]
        self.pid = os.posix_spawn(
            command[0],
            command,
            dict(os.environ),
            file_actions=actions,
            setsigdef=[signal.SIGPIPE],
        )
        os.close(writer)
        self.exit_code: int | None = None
        threading.Thread(target=self._forward, args=(reader,), daemon=True).start()

    @staticmethod
    def _forward(reader: int) -> None:
        with os.fdopen(reader, errors="replace") as lines:
            for line in lines:
                # The health check knocks from inside, all day long.
                if "127.0.0.1" not in line and "kex_exchange_identification" not in line:
                    log(f"sshd: {line.rstrip()}")

    def reap(self) -> None:
        """Collects every child that has ended: as the first process we inherit orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self.exit_code = os.waitstatus_to_exitcode(status)


def serve(config: GitConfig, places: Places | None = None) -> int:
    """Runs until SIGTERM (0) or until sshd ends (1).

    Raises:
        SettingsError: the host key or the repositories' folder is missing.
    """
    places = places or Places()
    stop = threading.Event()

    def on_stop(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_stop)
    os.umask(0o077)
    install_host_key(HOST_KEY, places.host_key)
    swept = _prepare_repositories(REPOSITORIES)
    if swept:
        log(f"repositories: {swept} interrupted pushes cleared away")
    receiver = events.listen(places.folder / events.SOCKET.name)
    threading.Thread(target=_print_events, args=(receiver,), daemon=True).start()
    with httpx2.Client(
        base_url=config.api_url,
        headers={"Authorization": f"Bearer {config.service_key}"},
        timeout=5.0,
        trust_env=False,
    ) as client:
        syncer = Syncer(client, places)
        syncer.turn()
        sshd = Sshd(SSHD)
        log(f"git server of {config.fleet}: sshd is process {sshd.pid}")
        return _superintend(sshd, syncer.turn, stop)


def _prepare_repositories(folder: Path) -> int:
    try:
        folder.mkdir(exist_ok=True)
        return repository.sweep(folder)
    except OSError as error:
        raise SettingsError(f"{folder}: {error.strerror}: is the volume ours?") from error


def _print_events(receiver: socket.socket) -> None:
    for line in events.lines(receiver):
        log(line)


def _superintend(sshd: Sshd, turn: Callable[[], None], stop: threading.Event) -> int:
    due = time.monotonic() + SYNC_SECONDS
    while not stop.wait(0.25):
        sshd.reap()
        if sshd.exit_code is not None:
            log(f"sshd ended with {sshd.exit_code}: so does the service")
            return 1
        if time.monotonic() >= due:
            turn()
            due = time.monotonic() + SYNC_SECONDS
    log("stopping")
    _stop_all(sshd)
    return 0


def _stop_all(sshd: Sshd) -> None:
    """Ends sshd and the sessions, which tell their clients; the container's end kills the rest."""
    os.kill(sshd.pid, signal.SIGTERM)
    shells = _processes_of("git-shell")
    for pid in shells:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline and (sshd.exit_code is None or _processes_of("git-shell")):
        sshd.reap()
        time.sleep(0.05)


def _processes_of(program: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(Path(os.fsdecode(word)).name == program for word in words[:3]):
            found.append(int(entry.name))
    return found

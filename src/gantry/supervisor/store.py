"""What the device remembers over a restart, in SQLite: last target, keys, log positions.

Nothing here is needed to know who the device is (that is in config.json), so a broken database is
set aside and begun afresh.
"""

import asyncio
import json
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

_LOG = logging.getLogger(__name__)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS log_position (
    container TEXT PRIMARY KEY,
    timestamp_ns INTEGER NOT NULL,
    lines INTEGER NOT NULL
) WITHOUT ROWID;
"""

T = TypeVar("T")


class _BrokenError(sqlite3.DatabaseError):
    """The database can be opened, but its content is not sound."""


def _is_broken(error: sqlite3.DatabaseError) -> bool:
    """Whether the file is at fault, and not the disk (full, read-only) or the query."""
    codes = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # extended codes have this low byte
    return isinstance(error, _BrokenError) or code in codes


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far a container's log was sent: the last line's time in nanoseconds since the epoch, and
    how many lines of exactly that time."""

    timestamp_ns: int
    lines: int


class Store:
    """The doorway to the database. One thread does all of it, so that the loop never waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None

    async def open(self) -> None:
        """Open the database, or begin a new one where it is missing or broken."""
        await self._run(self._open)

    async def close(self) -> None:
        """Write all and close."""
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def get(self, name: str) -> Any:
        """A fact as it was given to `put`; None when there is none."""
        return await self._run(lambda: self._get(name))

    async def put(self, name: str, value: Any) -> None:
        """Remember a fact: anything that JSON holds. None forgets it."""
        await self._write(lambda: self._put(name, value))

    async def flush(self) -> None:
        """Have what was remembered on the disk: without this, the last may be lost with power."""
        await self._write(lambda: self._flush())

    async def log_positions(self) -> dict[str, LogPosition]:
        """The position of each container's log, by container id."""
        return await self._run(self._log_positions)

    async def save_log_positions(
        self, positions: Mapping[str, LogPosition], keep: Iterable[str]
    ) -> None:
        """Remember these positions, and forget those of containers that are not in `keep`."""
        kept = set(keep)
        await self._write(lambda: self._save_log_positions(positions, kept))

    async def _write(self, work: Callable[[], None]) -> None:
        """Carry out; a full disk costs what was to be remembered and nothing else."""
        try:
            await self._run(work)
        except sqlite3.OperationalError as error:
            _LOG.warning("database %s cannot be written: %s; going on without", self._path, error)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._guard, work)

    def _guard(self, work: Callable[[], T]) -> T:
        """Carry out; a database that broke while it was open is begun afresh, once."""
        try:
            return work()
        except sqlite3.DatabaseError as error:
            if not _is_broken(error):
                raise
            self._set_aside(error)
            self._open()
            return work()

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            if not _is_broken(error):
                raise
            self._set_aside(error)
            self._connect()
        if self._get("begun_at_ns") is None:
            self._put("begun_at_ns", time.time_ns())

    def _connect(self) -> None:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        self._connection = connection
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -256")
        verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _BrokenError(f"integrity check: {verdict}")
        connection.executescript(_SCHEMA)

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        self._close()
        aside = self._path.with_name(self._path.name + ".broken")
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").replace(f"{aside}{suffix}")
        _LOG.error("database %s is broken (%s): begun afresh, kept as %s", self._path, error, aside)

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    @property
    def _database(self) -> sqlite3.Connection:
        if self._connection is None:
            raise RuntimeError("the store is not open")
        return self._connection

    def _get(self, name: str) -> Any:
        row = self._database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def _put(self, name: str, value: Any) -> None:
        if value is None:
            self._database.execute("DELETE FROM fact WHERE name = ?", (name,))
        else:
            self._database.execute(
                "INSERT OR REPLACE INTO fact VALUES (?, ?)", (name, json.dumps(value))
            )

    def _flush(self) -> None:
        self._database.execute("PRAGMA wal_checkpoint(FULL)").fetchall()

    def _log_positions(self) -> dict[str, LogPosition]:
        rows = self._database.execute("SELECT container, timestamp_ns, lines FROM log_position")
        return {container: LogPosition(stamp, lines) for container, stamp, lines in rows}

    def _save_log_positions(self, positions: Mapping[str, LogPosition], kept: set[str]) -> None:
        database = self._database
        database.execute("BEGIN")
        try:
            database.executemany(
                "INSERT OR REPLACE INTO log_position VALUES (?, ?, ?)",
                [(name, each.timestamp_ns, each.lines) for name, each in positions.items()],
            )
            gone = list(database.execute("SELECT container FROM log_position"))
            database.executemany(
                "DELETE FROM log_position WHERE container = ?",
                [row for row in gone if row[0] not in kept],
            )
            database.execute("COMMIT")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                database.execute("ROLLBACK")
            raise

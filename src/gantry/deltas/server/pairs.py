"""The index of pairs: what was asked for, what became of it, how often it was fetched. SQLite.

It can be lost: the deltas that it knew are removed then, and made again when they are asked for.
"""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gantry.contracts.deltas import DeltaState, ImageReference
from gantry.deltas.format import VERSION as DELTA_VERSION
from gantry.deltas.server.errors import TemporaryError
from gantry.deltas.server.expecting import Taken

# Of the table, and of the deltas' format: where either is another, the index begins anew, and what
# it does not know goes out of the storage.
VERSION = 2 << 16 | DELTA_VERSION
_SCHEMA = """
create table pair (
    name text primary key,
    sources text not null,
    target text not null,
    state text not null,
    digest text,
    size integer,
    whole integer,
    reason text,
    downloads integer not null default 0,
    seconds real,
    tries integer not null default 0,
    deaths integer not null default 0,
    limits text,
    retry_at real not null default 0,
    made_at real not null,
    used_at real not null
) without rowid;
create index pair_digest on pair (digest);
create index pair_used on pair (used_at);
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """From these images (as a set) to that one."""

    sources: tuple[ImageReference, ...]
    target: ImageReference

    @classmethod
    def of(cls, sources: Iterable[ImageReference], target: ImageReference) -> "Pair":
        """The same pair for the same images, in whatever order they come."""
        once = {each.digest: each for each in sources}
        return cls(tuple(once[digest] for digest in sorted(once)), target)

    @property
    def name(self) -> str:
        """What it is known by. Repositories count too: who may have the one may not the other."""
        return hashlib.sha256("\n".join(map(str, self.images)).encode()).hexdigest()

    @property
    def repositories(self) -> frozenset[str]:
        return frozenset({self.target.name, *(each.name for each in self.sources)})

    @property
    def images(self) -> tuple[ImageReference, ...]:
        return (*self.sources, self.target)


@dataclass(frozen=True, slots=True)
class Record:
    """A pair as it is known. `retry_at` and `used_at` are seconds since 1970.

    Since it was settled last, making it has failed `tries` times; in `deaths` of them the process
    died. `limits` are those (`Limits.making`) under which there was none.
    """

    pair: Pair
    state: DeltaState
    digest: str | None = None
    size: int | None = None
    whole: int | None = None
    reason: str | None = None
    downloads: int = 0
    seconds: float | None = None
    tries: int = 0
    deaths: int = 0
    limits: str | None = None
    retry_at: float = 0.0
    used_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why there is no delta: found out in so many `seconds`, under these `limits`. It holds as long
    as they do, but to `retry_at` where that is not 0. `whole` as in a record, None as it was."""

    reason: str
    whole: int | None
    seconds: float
    limits: str
    retry_at: float = 0.0


class Pairs:
    """The index in one file. Its methods wait for the disk: call them in a thread. All raise
    TemporaryError where the file cannot be read or written, on a full disk for one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._database = self._open()

    def close(self) -> None:
        self._database.close()

    def find(self, name: str) -> Record | None:
        """What is known of the pair of this name."""
        rows = self._rows("select * from pair where name = ?", (name,))
        return rows[0] if rows else None

    def all(self, state: DeltaState) -> list[Record]:
        """All pairs in this state, the longest unused first."""
        query = "select * from pair where state = ? order by used_at, name"
        return self._rows(query, (state,))

    def taken(self, most: int) -> list[Taken]:
        """What making the last deltas took, the oldest first; `most` of them."""
        with self._using() as database:
            rows = database.execute(
                "select size, whole, seconds from pair where state = ? and whole > 0 "
                "order by made_at desc limit ?",
                (DeltaState.READY, most),
            ).fetchall()
        return [Taken(*row) for row in reversed(rows)]

    def begin(self, pair: Pair, now: float, whole: int | None = None) -> Record:
        """A pair is to be made: told in the index, so that a restart goes on with it."""
        self._do(
            "insert into pair (name, sources, target, state, whole, made_at, used_at) "
            "values (?, ?, ?, ?, ?, ?, ?) on conflict (name) do update set state = excluded.state, "
            "whole = coalesce(excluded.whole, whole), reason = null, made_at = excluded.made_at, "
            "used_at = excluded.used_at",
            (
                pair.name,
                json.dumps([str(each) for each in pair.sources]),
                str(pair.target),
                DeltaState.WORKING,
                whole,
                now,
                now,
            ),
        )
        record = self.find(pair.name)
        assert record  # noqa: S101 - written a line before, and removed by this process alone
        return record

    def ready(self, name: str, digest: str, size: int, whole: int, seconds: float) -> None:
        """The delta is in the storage."""
        self._do(
            "update pair set state = ?, digest = ?, size = ?, whole = ?, seconds = ?, "
            "reason = null, tries = 0, deaths = 0, retry_at = 0 where name = ?",
            (DeltaState.READY, digest, size, whole, seconds, name),
        )

    def whole(self, name: str, verdict: Verdict) -> None:
        """There will be no delta."""
        self._do(
            "update pair set state = ?, digest = null, size = null, whole = coalesce(?, whole), "
            "seconds = ?, reason = ?, limits = ?, retry_at = ?, tries = 0, deaths = 0 "
            "where name = ?",
            (
                DeltaState.WHOLE,
                verdict.whole,
                verdict.seconds,
                verdict.reason,
                verdict.limits,
                verdict.retry_at,
                name,
            ),
        )

    def failed(self, name: str, reason: str, retry_at: float, *, died: bool = False) -> None:
        """It could not be made, and is tried again from `retry_at` on."""
        self._do(
            "update pair set state = ?, digest = null, reason = ?, tries = tries + 1, "
            "deaths = deaths + ?, retry_at = ? where name = ?",
            (DeltaState.FAILED, reason, died, retry_at, name),
        )

    def use(self, names: Iterable[str], now: float) -> None:
        """These are wanted now."""
        with self._using() as database, database:
            database.executemany(
                "update pair set used_at = ? where name = ?", [(now, each) for each in names]
            )

    def downloaded(self, name: str) -> None:
        """One more was sent to the last byte."""
        self._do("update pair set downloads = downloads + 1 where name = ?", (name,))

    def remove(self, name: str) -> None:
        """Forget a pair."""
        self._do("delete from pair where name = ?", (name,))

    def forget(self, names: Iterable[str]) -> None:
        """Forget pairs, but for those that are being made now."""
        self._do(
            "delete from pair where state <> ? and name in (select value from json_each(?))",
            (DeltaState.WORKING, json.dumps(list(names))),
        )

    def needs(self, digest: str) -> bool:
        """Whether a pair has this delta."""
        return bool(self._rows("select * from pair where digest = ? limit 1", (digest,)))

    def counts(self) -> tuple[dict[str, int], int]:
        """How many pairs are in which state, and the bytes of all deltas."""
        with self._using() as database:
            rows = database.execute("select state, count(*) from pair group by state")
            states = {str(state): int(count) for state, count in rows}
            (total,) = database.execute(
                "select coalesce(sum(size), 0) from "
                "(select max(size) as size from pair where state = ? group by digest)",
                (DeltaState.READY,),
            ).fetchone()
        return states, int(total)

    def _do(self, statement: str, values: Sequence[object]) -> None:
        with self._using() as database, database:
            database.execute(statement, values)

    def _rows(self, query: str, values: Sequence[object]) -> list[Record]:
        with self._using() as database:
            return [_record(row) for row in database.execute(query, values).fetchall()]

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._database
            except sqlite3.Error as error:
                raise TemporaryError(f"the index cannot be used: {error}") from error

    def _open(self) -> sqlite3.Connection:
        try:
            return _connect(self._path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            # Not a database any more: a new one begins.
            for suffix in ("", "-wal", "-shm"):
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            return _connect(self._path)


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, check_same_thread=False)
    database.row_factory = sqlite3.Row
    try:
        database.execute("pragma journal_mode = wal")
        # A delta counts once its row is on the disk.
        database.execute("pragma synchronous = full")
        (version,) = database.execute("pragma user_version").fetchone()
        if version != VERSION:
            with database:
                database.execute("drop table if exists pair")
                database.executescript(_SCHEMA)
                database.execute(f"pragma user_version = {VERSION}")
        database.execute("pragma quick_check")
    except BaseException:
        database.close()
        raise
    return database


def _record(row: sqlite3.Row) -> Record:
    return Record(
        pair=Pair(
            tuple(ImageReference.parse(each) for each in json.loads(row["sources"])),
            ImageReference.parse(row["target"]),
        ),
        state=DeltaState(row["state"]),
        digest=row["digest"],
        size=row["size"],
        whole=row["whole"],
        reason=row["reason"],
        downloads=row["downloads"],
        seconds=row["seconds"],
        tries=row["tries"],
        deaths=row["deaths"],
        limits=row["limits"],
        retry_at=row["retry_at"],
        used_at=row["used_at"],
    )

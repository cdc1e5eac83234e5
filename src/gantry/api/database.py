"""The doorway to PostgreSQL: connections, transactions, migrations."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"

# Any number will do, as long as every replica takes the same.
MIGRATION_LOCK = 0x67616E747279

# All stay open: one more would be made anew for each transaction, a process of PostgreSQL.
POOL_SIZE = 20
STATEMENT_TIMEOUT_MS = 20_000
RETRY_SECONDS = 1.0
# A connection that rested longer is tried before it is used.
REST_SECONDS = 1.0


class DatabaseUnavailableError(Exception):
    """PostgreSQL did not answer in time; the message says for how long it was tried."""


class Database:
    """A pool of connections and the kinds of transaction that the api needs."""

    def __init__(self, url: str) -> None:
        options = f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_MS}"
        self._engine = create_engine(
            url,
            pool_size=POOL_SIZE,
            max_overflow=0,
            pool_timeout=10,
            connect_args={"options": options, "connect_timeout": 5, "application_name": "api"},
        )
        _ping_after_rest(self._engine)
        self._single = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._snapshots = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back on an error."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def statement(self) -> Iterator[Session]:
        """Statements that are each a transaction of its own: a third of the round trips."""
        with Session(self._single, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """Reads of one moment: what other transactions commit meanwhile is not seen."""
        with Session(self._snapshots) as session, session.begin():
            yield session

    @contextmanager
    def locked(self, key: int = MIGRATION_LOCK) -> Iterator[Connection]:
        """A connection that holds the advisory lock `key`: one replica at a time."""
        with self._engine.connect() as connection:
            connection.execute(text("set statement_timeout = 0"))
            connection.execute(text("select pg_advisory_lock(:key)"), {"key": key})
            connection.commit()
            try:
                yield connection
            finally:
                connection.rollback()
                connection.execute(text("select pg_advisory_unlock(:key)"), {"key": key})
                connection.commit()
                # Its settings were changed: it must not go back to the pool as it is.
                connection.invalidate()

    def ping(self) -> None:
        """Ask for nothing. Raises OperationalError when PostgreSQL does not answer."""
        with self._engine.connect() as connection:
            connection.execute(text("select 1"))

    def wait(self, seconds: float) -> None:
        """Wait until PostgreSQL answers.

        Raises:
            DatabaseUnavailableError: it did not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        announced = False
        while True:
            try:
                self.ping()
                return
            except OperationalError as error:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailableError(
                        f"PostgreSQL did not answer for {seconds:.0f} s: {reason(error)}"
                    ) from error
                if not announced:
                    log.info("waiting for PostgreSQL: %s", reason(error))
                    announced = True
                time.sleep(RETRY_SECONDS)

    def migrate(self, connection: Connection, revision: str = "head") -> None:
        """Bring the tables to `revision`, on a connection that holds the lock."""
        config = AlembicConfig()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        if revision == "base" or revision.startswith("-"):
            command.downgrade(config, revision)
        else:
            command.upgrade(config, revision)
        connection.commit()

    def close(self) -> None:
        """Close all idle connections."""
        self._engine.dispose()


def _ping_after_rest(engine: Engine) -> None:
    """Try a connection before it is used, as `pool_pre_ping` does, but not one that was in use
    just now: under load that would be a third of all round trips."""

    @event.listens_for(engine, "checkin")
    def rests(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        record.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def works(connection: DBAPIConnection, record: ConnectionPoolEntry, _: object) -> None:
        if time.monotonic() - record.info.get("rests_since", 0.0) < REST_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            # The pool makes a new one in its place.
            raise DisconnectionError(str(error)) from error


def reason(error: Exception) -> str:
    """The first line of what the driver said, without SQL and without secrets."""
    cause = getattr(error, "orig", None) or error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]

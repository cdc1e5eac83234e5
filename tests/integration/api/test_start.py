"""Starting: migrations, the first account, wrong configurations, a database that is away."""

import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from gantry.api.database import Database
from gantry.api.rules import METADATA
from tests.ports import free_port

from .conftest import ADMIN_PASSWORD, Api, make_config


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "select tablename from pg_tables where schemaname = 'public'"
            " union select proname from pg_proc where pronamespace = 'public'::regnamespace"
        )
        return {row[0] for row in rows}


def test_migrations_make_what_the_models_say_and_unmake_it(database_url: str) -> None:
    database = Database(database_url.replace("postgresql://", "postgresql+psycopg://", 1))
    try:
        with database.locked() as connection:
            database.migrate(connection)
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, METADATA) == []
            connection.rollback()
            database.migrate(connection, "base")
            assert tables(database_url) == {"alembic_version"}
            database.migrate(connection)
        assert {"device", "application", "release"} <= tables(database_url)
    finally:
        database.close()


def test_three_replicas_start_at_once_on_an_empty_database(
    database_url: str, tmp_path: Path
) -> None:
    config = make_config(database_url, free_port())
    replicas = [
        Api({**config, "listen_port": free_port()}, tmp_path / f"{n}.json", tmp_path / f"{n}.log")
        for n in range(3)
    ]
    try:
        for each in replicas:
            each.start()
        for each in replicas:
            each.wait()
        for each in replicas:
            user = each.login()
            (fleet,) = user.get("/v7/application").json()["d"]
            assert fleet["slug"] == "admin/devbots"
        made = sum(each.log.read_text().count("application made") for each in replicas)
        assert made == 1
        # A session of the one holds at the others.
        token = replicas[0].login().headers["authorization"]
        for each in replicas:
            answer = each.client().get("/user/v1/whoami", headers={"Authorization": token})
            assert answer.status_code == 200
    finally:
        for each in replicas:
            each.stop()
    for each in replicas:
        assert each.process is not None
        assert each.process.returncode in (0, -signal.SIGTERM)


def test_the_configuration_sets_the_admin_s_password(api: Api) -> None:
    before = api.login()
    api.config["admin_password"] = "a new password"
    session = before.headers["authorization"].split()[1]
    api.stop()
    api.start()
    api.wait()
    old = {"username": "admin", "password": ADMIN_PASSWORD}
    assert api.client().post("/login_", json=old).status_code == 401
    assert api.login("admin", "a new password").get("/user/v1/whoami").status_code == 200
    # Sessions of the old password have ended; others outlive a restart.
    assert api.client(session).get("/user/v1/whoami").status_code == 401


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"unknown": 1}, "unknown: Extra inputs are not permitted"),
        ({"https_port": 0}, "https_port"),
        ({"device_type": "toaster"}, "unknown device type 'toaster'"),
        ({"token_key_pem": "secret nonsense"}, "token_key_pem"),
        ({"admin_username": "root"}, "'root' is reserved"),
        ({"session_secret": "tiny"}, "session_secret"),
    ],
)
def test_a_wrong_configuration_is_told_in_a_line(
    database_url: str, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    config = {**make_config(database_url, free_port()), **change}
    api = Api(config, tmp_path / "api.json", tmp_path / "api.log")
    api.start()
    assert api.process is not None
    assert api.process.wait(30) == 1
    log = api.log.read_text()
    assert said in log
    assert "Traceback" not in log
    assert "secret nonsense" not in log
    assert len(log.splitlines()) == 1 + log.count("waiting for")


def test_a_database_that_is_away_is_503_and_comes_back(api: Api, database_url: str) -> None:
    user = api.login()
    name = database_url.rpartition("/")[2]
    server = database_url.rpartition("/")[0] + "/template1"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"alter database {name} allow_connections false")
        connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [name]
        )
        answer = user.get("/v7/device")
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "5"
        assert answer.json() == {"error": "the database does not answer: try again"}
        assert api.client().get("/ping").status_code == 503
        connection.execute(f"alter database {name} allow_connections true")
    assert user.get("/v7/device").status_code == 200


def test_without_a_configuration_it_says_so(tmp_path: Path) -> None:
    api = Api({}, tmp_path / "api.json", tmp_path / "api.log")
    api.start()
    assert api.process is not None
    try:
        assert api.process.wait(30) == 1
    except subprocess.TimeoutExpired:
        api.stop(9)
        raise
    assert "session_secret: Field required" in api.log.read_text()

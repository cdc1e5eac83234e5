"""The database's image: a first start, later ones, other passwords."""

import secrets
import uuid
from collections.abc import Callable, Iterator

import docker
import pytest
from docker.models.containers import Container

from gantry.deployment.images import build_image
from gantry.deployment.progress import line_printer

from .servers import running, until

USER = "10002:10002"
DATA = "/var/lib/postgresql/data"


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(client: docker.DockerClient) -> str:
    return build_image("postgres", line_printer(), client=client).tag


@pytest.fixture
def volume(client: docker.DockerClient) -> Iterator[str]:
    made = client.volumes.create(f"infra-test-{uuid.uuid4().hex[:8]}")
    yield str(made.name)
    made.remove()


def ask(container: Container, password: str, sql: str, user: str = "gantry") -> tuple[int, str]:
    command = ["psql", "-Atq", "-h", "127.0.0.1", "-U", user, "-d", "gantry", "-c", sql]
    return run(container, command, PGPASSWORD=password)


def run(container: Container, command: list[str], **environment: str) -> tuple[int, str]:
    done = container.exec_run(command, environment=environment)
    assert isinstance(done.output, bytes)
    assert done.exit_code is not None
    return done.exit_code, done.output.decode().strip()


def healthy(container: Container) -> Callable[[], bool]:
    return lambda: container.exec_run(["/usr/local/bin/healthy"]).exit_code == 0


def test_data_outlives_the_password(client: docker.DockerClient, image: str, volume: str) -> None:
    mounts = [f"{volume}:{DATA}"]
    first, second = secrets.token_urlsafe(), f"it's {secrets.token_urlsafe()} \\ $1"
    with running(client, image, USER, {"postgres-password": first}, volumes=mounts) as server:
        until(healthy(server), server)
        assert ask(server, first, "CREATE TABLE kept (x int); INSERT INTO kept VALUES (42)")[0] == 0
        server.stop(timeout=30)
        # Shut down in order: the next start has nothing to recover.
        assert "database system is shut down" in server.logs(tail=3).decode()
    with running(client, image, USER, {"postgres-password": second}, volumes=mounts) as server:
        until(healthy(server), server)
        assert ask(server, second, "SELECT x FROM kept") == (0, "42")
        assert ask(server, first, "SELECT 1")[0] != 0
        assert "was not properly shut down" not in server.logs().decode()
        for password in (first, second):
            assert password not in server.logs().decode()


def test_nobody_is_let_in_without_the_password(
    client: docker.DockerClient, image: str, volume: str
) -> None:
    files = {"postgres-password": "the-password"}
    with running(client, image, USER, files, volumes=[f"{volume}:{DATA}"]) as server:
        until(healthy(server), server)
        assert ask(server, "another", "SELECT 1")[0] != 0
        # Not even with the right one: the superuser is the container's own.
        assert "rejects connection" in ask(server, "the-password", "SELECT 1", user="postgres")[1]
        stored = "SELECT left(rolpassword, 14) FROM pg_authid WHERE rolname = 'gantry'"
        own = run(server, ["psql", "-Atqc", stored, "-U", "postgres", "-d", "postgres"])
        assert own == (0, "SCRAM-SHA-256$")
        rights = "SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles"
        assert ask(server, "the-password", f"{rights} WHERE rolname = 'gantry'") == (0, "f")


def test_a_first_start_that_was_cut_short_begins_anew(
    client: docker.DockerClient, image: str, volume: str
) -> None:
    mounts, files = [f"{volume}:{DATA}"], {"postgres-password": "the-password"}
    with running(client, image, USER, files, volumes=mounts) as server:
        until(lambda: server.exec_run(["test", "-d", f"{DATA}/.new"]).exit_code == 0, server)
        server.kill()
    with running(client, image, USER, files, volumes=mounts) as server:
        until(healthy(server), server)
        assert ask(server, "the-password", "SELECT 1") == (0, "1")


def test_without_a_password_it_says_so(client: docker.DockerClient, image: str) -> None:
    with running(client, image, USER, {}) as server:
        assert server.wait(timeout=30)["StatusCode"] == 64
        assert "must hold the password of role gantry" in server.logs().decode()

"""The service's own life: begin, end, and what it does when others are away."""

from pathlib import Path

import docker
import pytest

from tests.integration.git.conftest import (
    Script,
    StandIn,
    git_server,
    make_client,
    port_of,
    wait_until,
)

NOWHERE = "http://127.0.0.1:9"


def test_without_the_api_a_login_says_why(engine: docker.DockerClient, tmp_path: Path) -> None:
    with git_server(engine, NOWHERE, tmp_path) as server:
        end = make_client(tmp_path / "client", port_of(server)).ssh("")
        assert end.returncode == 255
        assert "gantry: the fleet's api does not answer, so nobody can log in" in end.stderr
        health = server.exec_run(["python3", "-m", "gantry.git", "health"])
        assert health.exit_code == 1
        assert b"the api has never given the accounts" in health.output


def test_a_builder_that_is_away_rejects_the_push(
    engine: docker.DockerClient, stand_in: StandIn, tmp_path: Path
) -> None:
    with git_server(engine, stand_in.address, tmp_path, builder_url=NOWHERE) as server:
        client = make_client(tmp_path / "client", port_of(server))
        stand_in.keys = {"admin": [client.public_key]}
        end = client.git(client.work_tree("tree"), "push", "devbots", "main")
        assert end.returncode == 1
        assert "remote: error: the builder cannot be reached" in end.stderr


def test_a_stop_ends_pushes_and_says_so(
    engine: docker.DockerClient, stand_in: StandIn, tmp_path: Path, slow: Script
) -> None:
    stand_in.script = slow
    stand_in.builds.clear()
    with git_server(engine, stand_in.address, tmp_path) as server:
        client = make_client(tmp_path / "client", port_of(server))
        stand_in.keys = {"admin": [client.public_key]}
        push = client.start(client.work_tree("tree"), "push", "devbots", "main")
        build = stand_in.last_build()
        server.stop(timeout=10)
        said = push.communicate(timeout=60)[1]
        assert "gantry: the git server is going down, nothing was stored" in said
        assert push.returncode
        assert build.cancelled.wait(60)
        server.reload()
        assert server.attrs["State"]["ExitCode"] == 0
        # What was stored is there after the next start, and nobody has to make it again.
        server.start()
        wait_until(lambda: server.logs().count(b"Server listening on 0.0.0.0") == 2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"colour": "red"},
            b"git.json is wrong: colour: Extra inputs are not permitted",
        ),
        ({"git_port": 0}, b"git_port: Input should be greater than or equal to 1"),
    ],
)
def test_a_wrong_configuration_ends_it_with_a_line(
    engine: docker.DockerClient, tmp_path: Path, changes: dict[str, object], sentence: bytes
) -> None:
    with git_server(engine, NOWHERE, tmp_path, **changes) as server:
        assert server.attrs["State"]["ExitCode"] == 2
        assert sentence in server.logs()
        assert b"service-key" not in server.logs()

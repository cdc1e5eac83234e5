"""A real api with its PostgreSQL, real VPN servers, and devices that are real OpenVPN clients.

Servers run in their image, with the powers that a deployment gives them.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

# The api's fixtures are its own; pytest shares none between folders.
sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.integration.api.conftest import (
    Device,
    free_port,
    make_config,
    own_database,
    postgres,
    running,
)
from tests.integration.vpn.cloud import Cloud, new_fleet
from tests.integration.vpn.network import SERVICE_KEY, Client, Server, own_network

__all__ = ["postgres"]


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=600)
    yield client
    client.close()


@pytest.fixture(scope="module")
def cloud(
    engine: docker.DockerClient, postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cloud]:
    """A network and an api of the module's own."""
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(own_network(engine))
        config = make_config(stack.enter_context(own_database(postgres)), free_port())
        config["listen_host"] = "0.0.0.0"  # noqa: S104 - servers reach it from their containers
        config["service_keys"]["vpn"] = SERVICE_KEY
        api = stack.enter_context(running(config, tmp_path_factory.mktemp("api")))
        made = Cloud(api, net, new_fleet(api))
        stack.callback(made.remove_all)
        yield made


@pytest.fixture(scope="module")
def server(cloud: Cloud) -> Server:
    """The server that most of a module's tests share."""
    return cloud.server()


@pytest.fixture(scope="module")
def member(cloud: Cloud, server: Server) -> Callable[[], tuple[Device, Client]]:
    """Makes a device that is connected."""

    def make() -> tuple[Device, Client]:
        device = cloud.device()
        client = cloud.client(device).connect()
        client.connected()
        cloud.wait_connected(device)
        return device, client

    return make

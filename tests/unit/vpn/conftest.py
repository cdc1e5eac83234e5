"""The stand-in for the api."""

import pytest

from tests.unit.vpn.parts import StandIn


@pytest.fixture
def api() -> StandIn:
    return StandIn()

"""The order of single servers' tests."""

import pytest

# They take longest, and wait more than they work.
FIRST = {"supervisor", "vpn"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits comes first, so that workers end together."""
    items.sort(key=lambda item: FIRST.isdisjoint(item.path.parts))

"""The order of single servers' tests."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The supervisor's first: they are few, take longest and wait more than they work, so that
    workers end together."""
    items.sort(key=lambda item: "supervisor" not in item.path.parts)

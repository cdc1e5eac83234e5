"""How long a device that sends too much is held back."""

import pytest

from gantry.logs.limits import RateLimiter


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_what_follows_waits() -> None:
    clock = Clock()
    limiter = RateLimiter(rate=10, burst=20, clock=clock)
    assert [limiter.take("a", 50) for _ in range(20)] == [0.0] * 20
    assert limiter.take("a", 50) == pytest.approx(0.1)
    assert limiter.take("a", 50) == pytest.approx(0.2)
    assert limiter.take("b", 50) == 0.0
    clock.now += 10
    assert limiter.take("a", 50) == 0.0


def test_long_lines_count_for_more() -> None:
    limiter = RateLimiter(rate=10, burst=20, clock=Clock())
    assert limiter.take("a", 25 * 1024) == pytest.approx(0.6)

"""What all tests need."""

import signal

from hypothesis import HealthCheck, settings

# Machines are noisy, and a run says the same as the one before.
settings.register_profile(
    "gantry",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("gantry")


def pytest_configure() -> None:
    """Ctrl-C works in what the tests start: a shell makes its background jobs ignore it, and that
    is inherited."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

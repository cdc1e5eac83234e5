"""What all tests need."""

import signal


def pytest_configure() -> None:
    """Ctrl-C works in what the tests start: a shell makes its background jobs ignore it, and that
    is inherited."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

"""`python -m gantry.supervisor`"""

import asyncio
import logging
import os
import signal
import sys

from gantry.supervisor import VERSION, lean  # noqa: F401 (before all that it keeps out)
from gantry.supervisor.app import App, StartError
from gantry.supervisor.settings import SettingsError, read_settings


async def _run() -> bool:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return await App(read_settings(os.environ)).run(stop)


def main() -> int:
    """Run until told to stop; the exit status."""
    logging.basicConfig(level=logging.INFO, format="[%(levelname)s] %(message)s", stream=sys.stdout)
    # Each request at level info would fill the device's journal.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.info("supervisor %s", VERSION)
    try:
        again = asyncio.run(_run())
    except (StartError, SettingsError) as error:
        logging.error("%s", error)
        return 1
    if again:
        logging.shutdown()
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 (the same program)
    return 0


if __name__ == "__main__":
    sys.exit(main())

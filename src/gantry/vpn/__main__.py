"""`python -m gantry.vpn`: one VPN server, until SIGTERM."""

import asyncio
import signal
import sys

from gantry.configuration import ConfigError
from gantry.vpn.config import Config, load
from gantry.vpn.firewall import FirewallError
from gantry.vpn.service import serve


async def _until_stopped(config: Config) -> None:
    task = asyncio.current_task()
    assert task  # noqa: S101 - asyncio.run makes one
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, task.cancel)
    await serve(config)


def main() -> int:
    """Serves; the exit code."""
    try:
        config = load()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"vpn of fleet {config.fleet}: server {config.server}", flush=True)
    try:
        asyncio.run(_until_stopped(config))
    except (FirewallError, OSError) as error:
        print(f"the VPN server cannot run: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m gantry.deltas.server`: the delta server, until SIGTERM."""

import sys

import uvicorn

from gantry.configuration import ConfigError
from gantry.deltas.server.app import create_app
from gantry.deltas.server.config import load

GRACE_SECONDS = 5


def main() -> int:
    """Serves; the exit code."""
    try:
        config = load()
        app = create_app(config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    settings = uvicorn.Config(
        app,
        host=config.listen_host,
        port=config.listen_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    print(f"deltas of fleet {config.fleet}: listening on port {config.listen_port}", flush=True)
    server = uvicorn.Server(settings)
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())

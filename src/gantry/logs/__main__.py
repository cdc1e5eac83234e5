"""`python -m gantry.logs`: the log service, until SIGTERM."""

import sys
from types import FrameType

import uvicorn

from gantry.configuration import ConfigError
from gantry.logs.app import Service, create_app
from gantry.logs.config import load

GRACE_SECONDS = 5


class _Server(uvicorn.Server):
    """Ends the readers' endless responses first: uvicorn would wait for them."""

    service: Service | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.service:
            self.service.readers.close()
        super().handle_exit(sig, frame)

    def on_ready(self, service: Service) -> None:
        self.service = service


def main() -> int:
    """Serves; the exit code."""
    try:
        config = load()
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    settings = uvicorn.Config(
        "unset",
        host=config.listen_host,
        port=config.listen_port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = _Server(settings)
    settings.app = create_app(config, server.on_ready)
    print(f"logs of fleet {config.fleet}: listening on port {config.listen_port}", flush=True)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

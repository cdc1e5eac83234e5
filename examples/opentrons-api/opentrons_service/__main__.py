"""`python -m opentrons_service`: serves until it is stopped."""

import os
import sys
import threading

import uvicorn

from opentrons_service.serial_port import choose, list_ports
from opentrons_service.settings import SettingsError, from_environment
from opentrons_service.simulation import Simulator
from opentrons_service.web import create_app


def main() -> int:
    """2 when a variable of the environment is wrong."""
    try:
        settings = from_environment(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    simulator = Simulator(settings.max_seconds)

    def warm_up() -> None:
        print(f"opentrons loaded in {simulator.warm_up():.1f} s", flush=True)

    print(f"serial port: {choose(list_ports(), settings.smoothie_id).reason}", flush=True)
    threading.Thread(target=warm_up, daemon=True).start()
    app = create_app(settings, simulator, lambda: choose(list_ports(), settings.smoothie_id))
    uvicorn.run(app, host="0.0.0.0", port=settings.port, log_level="info")  # noqa: S104 - a device's own service
    return 0


if __name__ == "__main__":
    sys.exit(main())

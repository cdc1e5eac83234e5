"""`python -m gantry.registry`: the collector. It waits for orders of the api, and is small then:
each run is a process of its own, which imports what it needs and gives its memory back.

`python -m gantry.registry run ORDER` is such a run; nobody else calls it.
"""

import json
import logging
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from types import FrameType

from gantry.contracts.registry_space import Order
from gantry.registry.settings import Settings, SettingsError, load
from gantry.registry.web import Api, OverError, WebError

BUCKET_SECONDS = 5.0
WATCH_SECONDS = 5.0

log = logging.getLogger("gantry.registry")


class _EndedError(Exception):
    """A signal asks this process to end."""


def main(words: list[str]) -> int:
    """Exit code 0 after a signal or a run that did its work, 1 after one that failed, 2 for a wrong
    configuration."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s"
    )
    try:
        settings = load()
    except SettingsError as error:
        log.error("%s", error)
        return 2
    if words[:1] == ["run"]:
        from gantry.registry import running

        return running.run(settings, Order.from_json(json.loads(words[1])))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    try:
        return _wait_for_orders(settings)
    except _EndedError:
        return 0


def _end(number: int, _: FrameType | None) -> None:
    raise _EndedError(number)


def _wait_for_orders(settings: Settings) -> int:
    api = Api(settings.api_url, settings.service_key)
    has_recovered = False
    was_away = False
    while True:
        try:
            if not has_recovered:
                if settings.storage:
                    # What a run had sent to the bucket before it was killed has arrived by then.
                    time.sleep(BUCKET_SECONDS)
                api.recover()
                has_recovered = True
                log.info("ready: waiting for orders")
            order = api.next()
            # Its time is what the health check looks at.
            settings.alive.touch()
            was_away = False
        except WebError as error:
            if not was_away:
                log.warning("%s (tried again every %.0f s)", error, settings.poll_seconds)
            was_away = True
            order = None
        if order is None:
            time.sleep(settings.poll_seconds)
        else:
            _carry_out(settings, api, order)


def _carry_out(settings: Settings, api: Api, order: Order) -> None:
    log.info("run %d: %s", order.run, order.kind)
    words = [sys.executable, "-m", "gantry.registry", "run", json.dumps(asdict(order))]
    child = subprocess.Popen(words)
    try:
        while True:
            try:
                child.wait(WATCH_SECONDS)
                break
            except subprocess.TimeoutExpired:
                settings.alive.touch()
    except BaseException:
        # Where it is does not matter: the next run goes on from there.
        child.kill()
        child.wait()
        raise
    log.info("run %d ended with %d", order.run, child.returncode)
    if child.returncode not in (0, 1):
        try:
            api.end(order.run, None, f"the run ended with {child.returncode}: see its log")
        except OverError:
            return
        except WebError as error:
            log.warning("run %d: %s", order.run, error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

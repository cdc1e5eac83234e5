"""A run of the collector as a process: its storage, its sign of life, and its end."""

import logging
import threading
from dataclasses import replace

from gantry.contracts.delta_space import DeltaSpace
from gantry.contracts.registry_space import Order, RunKind, SpaceReport
from gantry.contracts.storage import S3Storage
from gantry.registry.collection import BusyError, Collection
from gantry.registry.settings import Settings
from gantry.registry.storage import Bucket, Folder, Storage, StorageError
from gantry.registry.web import Api, Deltas, OverError, Registry, Tokens, WebError

# The api gives a run up that says nothing for ten minutes.
SIGN_SECONDS = 20.0

log = logging.getLogger("gantry.registry")


class Saying(Api):
    """The api, told that the run lives also while it has nothing new to say."""

    def __init__(self, url: str, key: str, run: int) -> None:
        super().__init__(url, key)
        self._run = run
        self._text = "beginning"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> "Saying":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def say(self, run: int, text: str) -> None:
        """As the api's."""
        self._text = text
        super().say(run, text)

    def _go_on(self) -> None:
        while not self._ended.wait(SIGN_SECONDS):
            try:
                super().say(self._run, self._text)
            except WebError as error:
                # The run itself finds out, when it asks for something.
                log.warning("%s", error)


def open_storage(settings: Settings) -> Storage:
    """The folder or the bucket that the registry keeps its files in."""
    if settings.storage is None:
        return Folder(settings.folder)
    return open_bucket(S3Storage(**settings.storage))


def open_bucket(storage: S3Storage) -> Bucket:
    """A bucket, with boto3, which is large: imported where it is needed."""
    from gantry.bucket import connect

    # A removal must not come much later than it was sent: pushes are held back for it.
    client = connect(storage, attempts=3, connect_timeout=5, read_timeout=30)
    return Bucket(client, storage.bucket, storage.prefix)


def with_deltas(report: SpaceReport, kind: RunKind, server: Deltas) -> SpaceReport:
    """The report, and what the deltas take: the delta server removes those that go, unless it was
    only to be looked at. That it cannot be asked ends no run: it removes them by itself, later."""
    try:
        found = server.look(report.going) if kind is RunKind.SURVEY else server.collect()
    except WebError as error:
        log.warning("deltas: %s", error)
        found = DeltaSpace(error=str(error))
    return replace(report, deltas=found)


def run(settings: Settings, order: Order) -> int:
    """Do what was ordered and tell the api how it ended: 0, or 1 when it failed."""
    key = settings.service_key
    registry = Registry(settings.registry_url, Tokens(settings.api_url, settings.service, key))
    deltas = Deltas(settings.deltas_url, Tokens(settings.api_url, settings.deltas_service, key))
    report: SpaceReport | None = None
    error: str | None = None
    with Saying(settings.api_url, key, order.run) as api:
        try:
            report = Collection(order, api, registry, open_storage(settings)).run()
            api.say(order.run, "asking for the deltas")
            report = with_deltas(report, order.kind, deltas)
        except OverError as over:
            log.warning("run %d: %s", order.run, over)
            return 1
        except (BusyError, WebError, StorageError, OSError) as problem:
            error = str(problem)
        except Exception as problem:
            if not type(problem).__module__.startswith("botocore"):
                raise
            error = f"the bucket: {problem}"
    if error:
        log.error("run %d: %s", order.run, error)
    try:
        api.end(order.run, report, error)
    except WebError as problem:
        log.error("run %d: its end could not be told: %s", order.run, problem)
        return 1
    return 1 if error else 0

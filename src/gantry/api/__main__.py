"""`python -m gantry.api`: reads the configuration, prepares the database, serves.

`python -m gantry.api rules` lists the rules of the model instead; with `--markdown` as the page
docs/rules.md, with `--sql` as the functions and triggers that a new revision of the database has.

`python -m gantry.api openapi` prints the OpenAPI document; it needs neither configuration nor
database.

`python -m gantry.api reset-second-factor NAME` lets in an administrator who has lost theirs.
"""

import argparse
import asyncio
import gc
import json
import logging
import sys
from collections.abc import Sequence
from types import FrameType

import uvicorn
from sqlalchemy.exc import SQLAlchemyError

from gantry.api.app import create_app, interface, make_context
from gantry.api.config import load
from gantry.api.database import Database, DatabaseUnavailableError, reason
from gantry.api.errors import ApiError
from gantry.api.events import Hub
from gantry.api.rules import listing, sql
from gantry.api.services import second_factor
from gantry.api.services.bootstrap import prepare
from gantry.configuration import ConfigError

log = logging.getLogger("gantry.api")

DATABASE_WAIT_SECONDS = 120.0


class Server(uvicorn.Server):
    """A server that ends the open streams first when it is told to stop."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Remember the loop that the streams run on."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)  # type: ignore[arg-type]

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the streams, then stop."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._hub.close)
        super().handle_exit(sig, frame)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m gantry.api", description="The api.")
    commands = parser.add_subparsers(dest="command", metavar="command")
    commands.add_parser("serve", help="serve until told to stop (also without a command)")
    rules = commands.add_parser("rules", help="list the rules of the model")
    form = rules.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="as the page docs/rules.md")
    form.add_argument("--sql", action="store_true", help="as functions and triggers")
    commands.add_parser("openapi", help="print the OpenAPI document")
    reset = commands.add_parser("reset-second-factor", help="ask an account for its password alone")
    reset.add_argument("username")
    asked = parser.parse_args(arguments)
    if asked.command == "reset-second-factor":
        return reset_second_factor(asked.username)
    if asked.command == "openapi":
        print(json.dumps(interface().openapi(), indent=2, ensure_ascii=False))
        return 0
    if asked.command != "rules":
        return serve()
    if asked.sql:
        print(sql.find() + sql.create(), end="")
    else:
        print(listing.markdown() if asked.markdown else listing.text(), end="")
    return 0


def reset_second_factor(username: str) -> int:
    """Remove an account's second factor; 1 and a line when that cannot be."""
    try:
        database = Database(load().database_url.get_secret_value())
        try:
            with database.transaction() as session:
                second_factor.reset(session, None, username)
        finally:
            database.close()
    except (ConfigError, ApiError) as error:
        print(error, file=sys.stderr)
        return 1
    except SQLAlchemyError as error:
        print(f"the database cannot be used: {reason(error)}", file=sys.stderr)
        return 1
    print(f"{username} logs in with the password alone; their sessions have ended")
    return 0


def _tune_collector() -> None:
    """Let the garbage collector look seldom at what lives long: ten thousand open streams are a
    million objects, and nothing is answered while it goes through them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 100)


def serve() -> int:
    """Serve until told to stop; 1 and a line when that cannot be."""
    logging.basicConfig(
        level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        config = load()
        context = make_context(config)
        context.database.wait(DATABASE_WAIT_SECONDS)
        prepare(context.database, config)
    except (ConfigError, DatabaseUnavailableError) as error:
        log.error("%s", error)
        return 1
    except ApiError as error:
        log.error("the configuration cannot be used: %s", error.sentence)
        return 1
    except SQLAlchemyError as error:
        log.error("the database cannot be used: %s", reason(error), exc_info=True)
        return 1
    app = create_app(context)
    _tune_collector()
    server = Server(
        uvicorn.Config(
            app,
            host=config.listen_host,
            port=config.listen_port,
            access_log=False,
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=10,
            timeout_keep_alive=65,
            # They take less for each request, and for each open stream (decision 0018).
            loop="uvloop",
            http="httptools",
        ),
        context.hub,
    )
    log.info("listening on %s:%d", config.listen_host, config.listen_port)
    server.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

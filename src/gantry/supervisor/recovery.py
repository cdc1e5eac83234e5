"""What a device that lost its database finds out again from its engine.

Who it is, is in config.json; what it should run, the api tells. What only the database knew, and
what would start applications anew if it were another, is in the environment of their containers.
"""

import logging

from gantry.supervisor.desired import Label
from gantry.supervisor.engine import Engine, EngineError
from gantry.supervisor.store import Store

_LOG = logging.getLogger(__name__)
_NAME = "BALENA_DEVICE_NAME_AT_INIT"
_KEY = "BALENA_SUPERVISOR_API_KEY"


async def remember(store: Store, engine: Engine, instance: str) -> None:
    """Before anything is recalled: fill an empty memory from the containers of this device."""
    if await store.get("name_at_init") is not None:
        return
    try:
        name, keys = await _known(engine, instance)
    except EngineError as error:
        _LOG.warning("containers are not asked for what the database lost: %s", error)
        return
    if name:
        await store.put("name_at_init", name)
    if keys and await store.get("supervisor_keys") is None:
        await store.put("supervisor_keys", {"applications": keys})
    if name or keys:
        _LOG.info("what the database does not know was taken from the containers that are here")


async def _known(engine: Engine, instance: str) -> tuple[str, dict[str, str]]:
    """The device's first name, and the key of each application by its id."""
    first = ""
    keys: dict[str, str] = {}
    for each in await engine.containers():
        labels = each.get("Labels") or {}
        if labels.get(Label.INSTANCE) != instance:
            continue
        document = await engine.inspect_container(str(each["Id"]))
        variables = dict(
            str(text).partition("=")[::2]
            for text in (document.get("Config") or {}).get("Env") or []
        )
        first = first or variables.get(_NAME, "")
        if variables.get(_KEY):
            keys.setdefault(str(labels.get(Label.APP_ID, "")), variables[_KEY])
    return first, keys

"""What a device that lost its database finds out again from its engine.

Who it is, is in config.json; what it should run, the api tells. What only the database knew, and
what would start applications anew if it were another, is in the environment of their containers.
"""

import logging

from gantry.supervisor.desired import Label
from gantry.supervisor.engine import Engine, EngineError
from gantry.supervisor.store import Store

_LOG = logging.getLogger(__name__)
# Facts of the store, by the variable that holds them.
_FACTS = {
    "BALENA_DEVICE_NAME_AT_INIT": "name_at_init",
    "BALENA_SUPERVISOR_API_KEY": "supervisor_key",
}


async def remember(store: Store, engine: Engine, instance: str) -> None:
    """Before anything is recalled: fill an empty memory from the containers of this device."""
    if await store.get("name_at_init") is not None:
        return
    try:
        found = await _variables(engine, instance)
    except EngineError as error:
        _LOG.warning("containers are not asked for what the database lost: %s", error)
        return
    for variable, fact in _FACTS.items():
        if found.get(variable) and await store.get(fact) is None:
            await store.put(fact, found[variable])
    if found:
        _LOG.info("what the database does not know was taken from the containers that are here")


async def _variables(engine: Engine, instance: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in await engine.containers():
        if (each.get("Labels") or {}).get(Label.INSTANCE) != instance:
            continue
        document = await engine.inspect_container(str(each["Id"]))
        for text in (document.get("Config") or {}).get("Env") or []:
            name, _, value = str(text).partition("=")
            if name in _FACTS:
                found.setdefault(name, value)
    return found

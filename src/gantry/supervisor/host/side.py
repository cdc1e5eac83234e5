"""The host as variables want it: the loop that looks, plans, carries out and restarts."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from gantry.supervisor.backoff import Backoff
from gantry.supervisor.config import ConfigError
from gantry.supervisor.facts import Facts
from gantry.supervisor.host.boot import BootPartition
from gantry.supervisor.host.bootfiles import BootFileError
from gantry.supervisor.host.device import DeviceHost, Hold
from gantry.supervisor.host.doorway import HostError
from gantry.supervisor.host.plan import HostFacts, HostStep, Switch, WriteConfigJson, WriteConfigTxt
from gantry.supervisor.host.plan import plan as plan_host
from gantry.supervisor.host.restart import Restarts, boot_id
from gantry.supervisor.host.variables import Variables, read_variables
from gantry.supervisor.journal import Journal
from gantry.supervisor.locks import LockedError

_LOG = logging.getLogger(__name__)

_BEFORE, _SWITCHED = "host_before", "host_switched"
# How long until a restart that locks hold up is tried again, in seconds.
_LOCKED_AGAIN = 60.0
# A host that was told to restart ends soon; after so long it is told again.
RESTART_TAKES = 600.0


class HostSide:
    """Follows the variables of the target. `changed` hears that there is something to report;
    `hold` has the update locks of all applications while it lasts (its argument is `force`);
    `boot_id` tells one boot of the host from another."""

    def __init__(
        self,
        host: DeviceHost,
        boot: BootPartition,
        store: Facts,
        journal: Journal,
        hold: Hold,
        changed: Callable[[], None],
        device_type: str,
        has_local_mode: bool,
        boot_id: Callable[[], str] = boot_id,
    ) -> None:
        self._host = host
        self._boot = boot
        self._store = store
        self._journal = journal
        self._hold = hold
        self._changed = changed
        self._boot_id = boot_id
        self._has_local_mode = has_local_mode
        self._is_pi = device_type.startswith("raspberry")
        self._wake = asyncio.Event()
        self._config: Mapping[str, str] | None = None
        self._switched: frozenset[str] | None = None
        self._said: set[str] = set()
        self.variables = Variables()
        self.variant: str | None = None

    def follow(self, config: Mapping[str, str]) -> None:
        """The target's variables; what is new about them is said."""
        if config == self._config:
            return
        self._config = dict(config)
        found = read_variables(config, self._is_pi)
        sentences = [
            *(f"Configuration variable {each}" for each in found.problems),
            *(
                f"Configuration variable {name} is not used: {why}"
                for name, why in found.unused.items()
            ),
        ]
        if found.unknown:
            names = ", ".join(found.unknown)
            sentences.append(f"Configuration variables that are not known, and kept: {names}")
        for each in sentences:
            if each not in self._said:
                self._journal.write(each, is_error=True)
        self._said = set(sentences)
        self.variables = replace(found, local_mode=found.local_mode and self._has_local_mode)
        self._wake.set()

    def report(self) -> dict[str, Any]:
        """What of it is part of the device's report."""
        words = {"production": "prod", "development": "dev", "standalone": "dev"}
        found = words.get(self.variant or "")
        return {"os_variant": found} if found else {}

    async def run(self) -> None:
        """Hold the host at what the variables say, for ever."""
        restarts = Restarts(self._store, await asyncio.to_thread(self._boot_id))
        trouble = Backoff(5.0, 600.0)
        await self._ask_variant()
        while True:
            self._wake.clear()
            delay: float | None = None
            if self._config is not None:
                try:
                    delay = await self._round(restarts)
                    trouble.reset()
                except (HostError, BootFileError, ConfigError) as error:
                    delay = trouble.next()
                    self._say_once(f"The host is not as its variables say: {error}")
            try:
                async with asyncio.timeout(delay):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _ask_variant(self) -> None:
        try:
            self.variant = (await self._host.facts()).get("variant")
            self._changed()
        except HostError as error:
            _LOG.info("%s", error)

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._journal.write(sentence, is_error=True)

    async def _facts(self) -> HostFacts:
        before = await self._store.get(_BEFORE) or {}
        if self._switched is None:
            # What is to be off may have come back with a boot: it is switched again.
            said = {"vpn": self.variables.vpn, "discovery": self.variables.discovery}
            known = await self._store.get(_SWITCHED) or ()
            self._switched = frozenset(name for name in known if said.get(name) is not False)
        return await asyncio.to_thread(self._boot.facts, self._is_pi, before, self._switched)

    async def _round(self, restarts: Restarts) -> float | None:
        """One look and what follows; seconds until the next, None for: when something changes."""
        facts = await self._facts()
        if facts.config_txt is None and self.variables.config_txt:
            raise HostError(
                f"{self._boot.config_txt} is not there: the boot partition must be mounted there"
            )
        problem: Exception | None = None
        for step in plan_host(self.variables, facts):
            try:
                await self._carry_out(step, restarts)
            except (HostError, BootFileError, ConfigError) as error:
                problem = error  # the others have their turn all the same
        needed = await restarts.needed()
        if needed is None:
            await restarts.settled()
        elif not self.variables.local_mode:
            return await self._restart(restarts)
        if problem is not None:
            raise problem
        return None

    async def _carry_out(self, step: HostStep, restarts: Restarts) -> None:
        match step:
            case Switch(service=service, on=on):
                await self._host.switch(service, on)
                known = self._switched or frozenset()
                self._switched = known - {service} if on else known | {service}
                await self._store.put(_SWITCHED, sorted(self._switched) or None)
                self._journal.write(f"Host: {service} switched {'on' if on else 'off'}")
            case WriteConfigJson(changes=changes, before=before):
                # What was before is known before anything is another.
                await self._store.put(_BEFORE, {**before, **await self._still(before)} or None)
                await asyncio.to_thread(self._boot.carry_out, step)
                await self._store.put(_BEFORE, dict(before) or None)
                for key, value in sorted(changes.items()):
                    self._journal.write(f"Host: {key} is {'default' if value is None else value}")
            case WriteConfigTxt(text=text, names=names):
                # Written first: who loses power in between has a restart too many, not one too few.
                if names:
                    await restarts.need(names, text)
                await asyncio.to_thread(self._boot.carry_out, step)
                said = ", ".join(names) or "nothing that has an effect"
                self._journal.write(f"Host: config.txt changed: {said}")
            case _:
                await asyncio.to_thread(self._boot.carry_out, step)
                self._journal.write("Host: the logo changed, and is shown from the next start on")

    async def _still(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """What was remembered and is about to be given back: until it is, it is remembered."""
        known = await self._store.get(_BEFORE) or {}
        return {key: value for key, value in known.items() if key not in before}

    async def _restart(self, restarts: Restarts) -> float:
        needed = await restarts.needed()
        if needed is None:
            return 0.0
        names = ", ".join(needed.reasons)
        if needed.in_vain:
            self._say_once(
                f"The host was restarted for {names}, and config.txt was another each time: it is "
                "not restarted again; something else there writes it"
            )
            return RESTART_TAKES
        try:
            async with self._hold(False):
                self._journal.write(f"The host is restarted for {names}")
                await restarts.begin()
                try:
                    await self._host.reboot()
                except HostError:
                    await restarts.not_begun()
                    raise
                # The locks are kept until the end: nothing is to begin now.
                await asyncio.sleep(RESTART_TAKES)
        except LockedError as error:
            self._say_once(f"A restart for {names} waits: {error}")
            return _LOCKED_AGAIN
        return 0.0

"""The host of this device: what it does by the door, and what is set on its boot partition."""

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from pathlib import Path
from typing import Any

from gantry.supervisor.config import ConfigError, ConfigFile
from gantry.supervisor.host import bootfiles, proxy
from gantry.supervisor.host.bootfiles import BootFileError
from gantry.supervisor.host.door import Door
from gantry.supervisor.host.doorway import BLINK_SECONDS, HostError, JournalQuery, VpnStatus

_TUNNEL = "resin-vpn"  # of the role vpn_client
_LOG = logging.getLogger(__name__)

Hold = Callable[[bool], AbstractAsyncContextManager[object]]


class DeviceHost:
    """A `Host`. `file` is config.json, beside which the boot partition's other settings are; `hold`
    has the update locks while it lasts, or raises (its argument is `force`)."""

    def __init__(self, door: Door, file: ConfigFile, hold: Hold = lambda _force: nullcontext()):
        self._door = door
        self._file = file
        self._hold = hold
        self._turn = asyncio.Lock()

    async def reboot(self) -> None:
        """See Host."""
        _LOG.warning("the host is restarted")
        await self._door.ask("reboot")

    async def shutdown(self) -> None:
        """See Host."""
        _LOG.warning("the host is switched off")
        await self._door.ask("shutdown")

    async def blink(self, seconds: float = BLINK_SECONDS) -> None:
        """See Host."""
        answer = await self._door.ask("blink", seconds=seconds)
        if not answer.get("led"):
            _LOG.info("this board has no LED to blink with")

    def signal(self, times: int) -> AbstractAsyncContextManager[object]:
        """While it lasts, the LED flashes so many times again and again."""
        return self._door.held("signal", times=times)

    async def switch(self, service: str, on: bool) -> None:
        """Start or stop one of the host's services, until the next boot: `vpn`, `discovery`."""
        await self._door.ask("service", name=service, on=on)

    async def facts(self) -> dict[str, Any]:
        """`hostname`, `variant` (production, development, standalone; or None) and `services`, the
        state of each by name as systemd has it."""
        return await self._door.ask("facts")

    async def journal(self, query: JournalQuery) -> AsyncGenerator[bytes, None]:
        """See Host."""
        names = JournalQuery.__slots__
        request = {name: getattr(query, name) for name in names}
        async with aclosing(self._door.stream("journal", **request)) as pieces:
            async for piece in pieces:
                yield piece

    async def vpn_status(self) -> VpnStatus:
        """See Host. It is to be while the host's unit is started, and is when that is ready and the
        interface there."""
        state = (await self.facts())["services"].get("vpn")
        there = any(name == _TUNNEL for _, name in socket.if_nameindex())
        on = state in ("active", "activating", "reloading")
        return VpnStatus(enabled=on, connected=state == "active" and there)

    @property
    def _proxy_path(self) -> Path:
        return self._file.path.parent / "system-proxy" / "redsocks.conf"

    @property
    def _no_proxy_path(self) -> Path:
        return self._file.path.parent / "system-proxy" / "no_proxy"

    async def host_config(self) -> dict[str, Any]:
        """See Host."""
        facts = await self.facts()
        try:
            current, listed = await asyncio.to_thread(self._read_proxy)
        except BootFileError as error:
            raise HostError(str(error)) from error
        return proxy.host_config(str(facts["hostname"]), current, listed)

    def _read_proxy(self) -> tuple[dict[str, str], tuple[str, ...]]:
        text = bootfiles.read(self._proxy_path) or b""
        listed = bootfiles.read(self._no_proxy_path) or b""
        return (
            proxy.parse_redsocks(text.decode("utf-8-sig", errors="replace")),
            proxy.parse_no_proxy(listed.decode("utf-8-sig", errors="replace")),
        )

    async def set_host_config(self, patch: Mapping[str, Any], force: bool = False) -> None:
        """See Host. The host takes changes up by itself (gantry-config)."""
        change = proxy.read_change(patch)
        async with self._turn, self._hold(force):
            try:
                if change.proxy is not None or change.no_proxy is not None:
                    await asyncio.to_thread(self._write_proxy, change)
                if change.hostname is not None:
                    # Without one, the host is called by the short uuid.
                    name = change.hostname or None
                    await asyncio.to_thread(self._file.update, {"hostname": name})
            except (BootFileError, ConfigError) as error:
                raise HostError(str(error)) from error

    def _write_proxy(self, change: proxy.HostConfigChange) -> None:
        current, _ = self._read_proxy()
        wanted = None if change.proxy is None else proxy.merged(current, change.proxy)
        # The list first: a proxy is in force as soon as its file is there.
        if change.no_proxy is not None:
            content = "".join(f"{each}\n" for each in change.no_proxy).encode()
            if content:
                bootfiles.write(self._no_proxy_path, content)
            else:
                bootfiles.remove(self._no_proxy_path)
        if wanted:
            bootfiles.write(self._proxy_path, proxy.redsocks_conf(wanted).encode())
        elif wanted is not None:
            bootfiles.remove(self._proxy_path)

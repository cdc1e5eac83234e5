"""The whole service: its parts, made once from the configuration, and their tasks."""

import asyncio
import contextlib
import functools
import ssl
from asyncio import sslproto
from collections.abc import Awaitable, Callable

import httpx2

from gantry.gauges import MEDIA_TYPE
from gantry.vpn import firewall
from gantry.vpn.api import TIMEOUT_SECONDS, Api, Event
from gantry.vpn.config import Config
from gantry.vpn.cuts import Cuts
from gantry.vpn.devices import Devices, Dispatch
from gantry.vpn.errors import VpnError
from gantry.vpn.heads import MAX_HEAD_BYTES, answer, read_head
from gantry.vpn.login import Authenticator
from gantry.vpn.metrics import Metrics
from gantry.vpn.process import Keeper, Run
from gantry.vpn.public_urls import PublicUrls
from gantry.vpn.relay import closing
from gantry.vpn.report import Reporter
from gantry.vpn.roads import Roads
from gantry.vpn.rules import ruleset
from gantry.vpn.tunnels import Tunnels
from gantry.vpn.watch import Watch

HANDSHAKE_SECONDS = 10.0
FLUSH_SECONDS = 3.0
BACKLOG = 256
# asyncio gives each TLS connection a buffer of 256 KiB when it is accepted, before anybody is
# judged (measured: 311 KiB a connection, 83 with this one); a record of TLS has 16.
TLS_BUFFER_BYTES = 32 * 1024

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Service:
    """Every part, and who knows whom."""

    def __init__(self, config: Config, client: httpx2.AsyncClient) -> None:
        self.config = config
        self.metrics = Metrics()
        self.api = Api(client, config)
        self.cuts = Cuts()
        self.devices = Devices(config.max_devices, self.cuts, self.metrics, self._on_event)
        self.reporter = Reporter(self.api, self.devices, self.metrics)
        login = Authenticator(config, self.api, self.devices, self.metrics)
        dispatch = Dispatch(self.devices, login.on_login, self._on_run)
        self.keeper = Keeper(config, dispatch)
        roads = Roads(config, self.devices)
        self.tunnels = Tunnels(config, self.api, roads, self.cuts, self.metrics)
        self.public_urls = PublicUrls(config, self.api, roads, self.cuts, self.metrics)
        self.watch = Watch(self.api, self.cuts, self.public_urls.forget)

    def _on_run(self, run: Run) -> None:
        self.metrics.starts.inc()
        self.reporter.begin(run)

    def _on_event(self, run: Run, event: Event) -> None:
        self.reporter.add(run, event)

    async def run(self) -> None:
        """Serves until cancelled.

        Raises:
            firewall.FirewallError: the rules cannot be set; nothing is served then.
            OSError: a port is taken, or a certificate cannot be read.
        """
        await firewall.apply(ruleset(self.config.rate_bytes_per_second))
        async with contextlib.AsyncExitStack() as stack:
            await self.listen(stack)
            openvpn = asyncio.create_task(self.keeper.keep(), name="openvpn")
            try:
                await self._work(openvpn)
            finally:
                # Devices leave first, so that the api hears of it.
                openvpn.cancel()
                await asyncio.gather(openvpn, return_exceptions=True)
                await self.reporter.flush(FLUSH_SECONDS)
                await self.tunnels.flush(FLUSH_SECONDS)

    async def _work(self, openvpn: "asyncio.Task[None]") -> None:
        async with asyncio.TaskGroup() as group:
            for each in (
                self.reporter.run(),
                self.watch.listen(),
                self.watch.check(),
                self.tunnels.tell_ends(),
            ):
                group.create_task(each)
            # It ends with an error only.
            await openvpn

    async def listen(self, stack: contextlib.AsyncExitStack) -> None:
        """Open all ports but openvpn's, until the stack is closed.

        Raises:
            OSError: a port is taken, or a certificate cannot be read.
        """
        listen = self.config.listen
        context = tls_context(self.config)
        sslproto.SSLProtocol.max_size = TLS_BUFFER_BYTES
        for handler, port, tls in (
            (self.health, listen.health, None),
            (self.tunnels.serve_service, listen.services, None),
            (self.tunnels.serve_person, listen.tunnels, context),
            (self.public_urls.serve, listen.public_urls, None),
        ):
            server = await asyncio.start_server(
                functools.partial(_guarded, handler),
                listen.host,
                port,
                limit=MAX_HEAD_BYTES,
                backlog=BACKLOG,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None,
            )
            # Not as a context: that waits for connections, which stay for days.
            stack.callback(server.close)

    async def health(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """`/ping`: the service runs. `/healthy`: devices can log in. `/metrics`."""
        async with closing(writer):
            try:
                head = await read_head(reader)
            except VpnError as error:
                writer.write(answer(error.status, error.sentence))
                return
            if head is None:
                return
            match head.first[1]:
                case "/ping":
                    writer.write(answer(200, "OK"))
                case "/healthy" if self.keeper.run:
                    writer.write(answer(200, "OK"))
                case "/healthy":
                    writer.write(answer(503, "openvpn does not run"))
                case "/metrics":
                    self.metrics.openvpn_up.set(bool(self.keeper.run))
                    writer.write(answer(200, self.metrics.text().decode(), MEDIA_TYPE))
                case _:
                    writer.write(answer(404, "nothing is here"))


async def serve(config: Config) -> None:
    """Until cancelled. Raises what `Service.run` does."""
    limits = httpx2.Limits(max_connections=64, max_keepalive_connections=32)
    async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS, limits=limits) as client:
        await Service(config, client).run()


def tls_context(config: Config) -> ssl.SSLContext:
    """For people's tunnels: the fleet's certificate, TLS 1.2 at least.

    Raises:
        OSError: a file cannot be read, or holds none (ssl.SSLError).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(config.certificates / "tls.crt", config.certificates / "tls.key")
    return context


async def _guarded(
    handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """A connection that breaks is nobody's fault."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await handler(reader, writer)

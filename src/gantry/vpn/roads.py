"""Opens connections to ports of devices: here through the tunnel, elsewhere through that server."""

import asyncio
from urllib.parse import urlsplit

from gantry.vpn.config import Config
from gantry.vpn.devices import Devices
from gantry.vpn.errors import VpnError
from gantry.vpn.heads import MAX_HEAD_BYTES, parse_head
from gantry.vpn.relay import End, prepare

CONNECT_SECONDS = 10.0
# A peer waits for the device as long as we would.
PEER_SECONDS = CONNECT_SECONDS + 5.0
MAX_SENTENCE_BYTES = 1000


class Roads:
    """See the module."""

    def __init__(self, config: Config, devices: Devices) -> None:
        self._config = config
        self._devices = devices

    async def open(self, uuid: str, port: int, server: str) -> End:
        """A connection to a port of a device that the api says is on `server`.

        Raises:
            VpnError: 502 the port is closed, 503 not connected, 504 no answer.
        """
        session = self._devices.connected.get(uuid)
        # What is here is here, whatever the api has heard so far.
        if session:
            return await _open(str(session.grant.address), port, f"port {port} of the device")
        peer = self._config.peers.get(server)
        if peer is None:
            raise VpnError(503, "the device is not connected to the VPN at this moment")
        return await self._through(peer, server, uuid, port)

    async def _through(self, peer: str, server: str, uuid: str, port: int) -> End:
        place = urlsplit(peer)
        end = await _open(place.hostname or "", place.port or 80, f"the server {server}")
        key = self._config.service_key.get_secret_value()
        request = (
            f"CONNECT {uuid}.gantry:{port} HTTP/1.1\r\nHost: {uuid}.gantry:{port}\r\n"
            f"Proxy-Authorization: Bearer {key}\r\nX-Gantry-Hop: 1\r\n\r\n"
        )
        try:
            async with asyncio.timeout(PEER_SECONDS):
                end.writer.write(request.encode())
                head = parse_head(await end.reader.readuntil(b"\r\n\r\n"))
                if head.first[1] == "200":
                    return end
                sentence = (await end.reader.read(MAX_SENTENCE_BYTES)).decode(errors="replace")
        except TimeoutError as error:
            end.writer.transport.abort()
            raise VpnError(504, f"the server {server} does not answer") from error
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            end.writer.transport.abort()
            raise VpnError(503, f"the server {server} broke off") from error
        except BaseException:
            end.writer.transport.abort()
            raise
        end.writer.transport.abort()
        status = int(head.first[1]) if head.first[1] in ("502", "503", "504") else 503
        raise VpnError(status, sentence.strip() or f"the server {server} refused")


async def _open(host: str, port: int, what: str) -> End:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, limit=MAX_HEAD_BYTES)
    except ConnectionRefusedError as error:
        raise VpnError(502, f"{what} is closed: nothing listens there") from error
    except TimeoutError as error:
        raise VpnError(504, f"{what} does not answer") from error
    except OSError as error:
        raise VpnError(503, f"{what} cannot be reached: {error.strerror or error}") from error
    prepare(writer)
    return End(reader, writer)

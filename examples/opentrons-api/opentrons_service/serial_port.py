"""Which serial port leads to the robot's motor board, the Smoothie."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BY_ID = Path("/dev/serial/by-id")


@dataclass(frozen=True, slots=True)
class Port:
    """A serial port and all that it is known by."""

    device: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The port to use, if there is one, and a sentence that says why."""

    device: str | None
    reason: str


def choose(ports: Iterable[Port], prefix: str) -> Choice:
    """The first port, by name, with an id that begins with `prefix` (OT_SMOOTHIE_ID)."""
    found = sorted(ports, key=lambda port: port.device)
    if not prefix:
        return Choice(None, f"OT_SMOOTHIE_ID is not set, so none is chosen. {_listing(found)}")
    for port in found:
        for identity in port.ids:
            if identity.startswith(prefix):
                reason = f"{port.device}: its id {identity} begins with OT_SMOOTHIE_ID={prefix}"
                return Choice(port.device, reason)
    return Choice(None, f"no id begins with OT_SMOOTHIE_ID={prefix}. {_listing(found)}")


def list_ports(by_id: Path = BY_ID) -> list[Port]:
    """The serial ports of this machine, as the container sees them.

    A port's ids are its USB serial number, its name under /dev/serial/by-id with and without the
    bus, and the device's own name (ttyACM0, ttyAMA0).
    """
    from serial.tools import list_ports as pyserial

    links: dict[str, list[str]] = {}
    if by_id.is_dir():
        for link in by_id.iterdir():
            names = [link.name, link.name.removeprefix("usb-")]
            links.setdefault(str(link.resolve()), []).extend(names)
    ports = []
    for info in pyserial.comports():
        ids = [info.serial_number, *links.get(info.device, []), Path(info.device).name]
        ports.append(Port(info.device, tuple(dict.fromkeys(each for each in ids if each))))
    return ports


def _listing(ports: list[Port]) -> str:
    if not ports:
        return "There is no serial port here."
    return "There is " + "; ".join(f"{port.device} ({', '.join(port.ids)})" for port in ports) + "."

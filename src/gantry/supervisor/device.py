"""What the supervisor knows of its device, put together from config.json, engine and memory."""

from dataclasses import dataclass

from gantry.contracts.device_types import UnknownDeviceTypeError, device_type
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.engine import EngineInfo
from gantry.supervisor.environment import DeviceFacts
from gantry.supervisor.host.restart import boot_id
from gantry.supervisor.keys import KeyRing, recall_keys
from gantry.supervisor.settings import Settings
from gantry.supervisor.store import Store

# The engine's names of architectures (uname -m) and the family's.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "aarch64", "armv7l": "armv7hf", "armv6l": "rpi"}


@dataclass(frozen=True, slots=True)
class Memory:
    """What the store keeps of the device itself."""

    keys: KeyRing
    begun_at_ns: int
    name_at_init: str


async def recall(store: Store) -> Memory:
    """The device's memory; what is missing is made."""
    return Memory(
        keys=await recall_keys(store),
        begun_at_ns=int(await store.get("begun_at_ns") or 0),
        name_at_init=str(await store.get("name_at_init") or ""),
    )


def architecture(config: DeviceConfig, info: EngineInfo) -> str:
    """The family's name of the device's architecture."""
    try:
        return str(device_type(config.device_type).architecture)
    except UnknownDeviceTypeError:
        return _ARCHITECTURES.get(info.architecture, info.architecture)


def facts(
    settings: Settings, config: DeviceConfig, info: EngineInfo, memory: Memory, name: str
) -> DeviceFacts:
    """What containers may know of their device."""
    return DeviceFacts(
        uuid=config.uuid or "",
        name_at_init=memory.name_at_init or name or config.initial_name or "",
        device_type=config.device_type,
        architecture=architecture(config, info),
        os_version=info.operating_system,
        api_url=config.api_endpoint or "",
        device_key=config.device_key or "",
        supervisor_keys=memory.keys.applications,
        supervisor_port=settings.listen_port or config.listen_port,
        bridge_address=info.bridge_address,
        docker_socket=settings.host_docker_socket,
        runtime_directory=settings.runtime_directory,
        instance=settings.instance,
        boot=boot_id(),
        os_number=info.os_version,
        kernel=info.kernel_version,
    )

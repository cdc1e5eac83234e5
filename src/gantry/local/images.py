"""Images of a tree's services on a device: built there, or here and sent over."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gantry.builder.plan import BaseName, ServiceBuild, ServiceImage
from gantry.builder.tree import Tree
from gantry.local import build
from gantry.local.engine import LocalEngine
from gantry.local.errors import LocalError
from gantry.local.target import image_name

Say = Callable[[str], None]
_SAY_EVERY = 5.0


@dataclass(frozen=True, slots=True)
class RegistryAccess:
    """A fleet's registry, and who may pull its base images."""

    registry: str
    username: str
    token: str


@dataclass(frozen=True, slots=True)
class BuiltService:
    """A service's image on the device, and the folder that its processes start in."""

    image: str
    working_dir: str


class Images:
    """Makes images. `device` is the device's engine, `here` this machine's if it builds here;
    `access` gives the fleet's registry, or raises when nobody is logged in."""

    def __init__(
        self,
        device: LocalEngine,
        here: LocalEngine | None,
        platform: str,
        access: Callable[[], RegistryAccess],
        no_cache: bool = False,
    ) -> None:
        self._device = device
        self._builds = here or device
        self._settings = build.BuildSettings(self._builds.address, platform, no_cache)
        self._access = access
        self._borrowed: list[str] = []

    def close(self) -> None:
        """Take away the names of base images that were only wanted for building."""
        for name in self._borrowed:
            self._builds.untag(name)

    def have_bases(self, bases: Iterable[BaseName], say: Say) -> None:
        """Have the fleet's base images where it is built.

        Raises:
            LocalError: nobody is logged in, or the registry does not give one.
        """
        for base in bases:
            if self._builds.has_image(base.reference):
                continue
            access = self._access()
            name = f"{access.registry}/{base.reference}"
            say(f"getting the base image {name}")
            self._builds.pull(name, access.username, access.token)
            self._borrowed += [name, base.reference]
            self._builds.tag(name, base.reference)

    def build(self, service: ServiceBuild, tree: Tree, say: Say) -> BuiltService:
        """Build one service.

        Raises:
            LocalError: it cannot be built, or not be sent over.
        """
        image_id = build.run(service, tree.root, self._settings, say)
        return self._hand_over(service.service, image_id, say)

    def take(self, service: ServiceImage, say: Say) -> BuiltService:
        """The image of a service that is a base image."""
        image_id, _ = self._builds.image(service.base.reference)
        return self._hand_over(service.service, image_id, say)

    def _hand_over(self, service: str, image_id: str, say: Say) -> BuiltService:
        name = image_name(service, image_id)
        _, working_dir = self._builds.image(image_id)
        self._builds.tag(image_id, name)
        if self._builds is not self._device:
            try:
                if not self._device.has_image(name):
                    self._send(name, say)
            finally:
                self._builds.untag(name)
        if not self._device.has_image(name):
            raise LocalError(f"{name} is not on the device, though its engine said that it is")
        return BuiltService(name, working_dir)

    def _send(self, name: str, say: Say) -> None:
        said_at = time.monotonic()

        def progress(sent: int) -> None:
            nonlocal said_at
            if time.monotonic() - said_at > _SAY_EVERY:
                said_at = time.monotonic()
                say(f"sending {name}: {sent / 2**20:.0f} MiB")

        say(f"sending {name}")
        self._device.load(self._builds.save(name), progress)

"""What can go wrong between a developer's machine and a device."""

from gantry.client.errors import ClientError, UnreachableError


class LocalError(ClientError):
    """The push cannot go on; the message says why and what to do."""


class DeviceUnreachableError(UnreachableError):
    """The device's supervisor or engine does not answer."""

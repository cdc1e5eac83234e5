"""config.json on the boot partition: who this device is and where its fleet's cloud side is.

The keys are the family's (the supervisor's README of 2017 and the newer ones of
https://docs.balena.io/reference/os/configuration/). Keys that are not known here are kept.
"""

import base64
import binascii
import contextlib
import json
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gantry.supervisor import wire

DEFAULT_PORT = 48484
DEFAULT_POLL_MS = 900_000


class ConfigError(ValueError):
    """config.json is missing, unreadable or lacks what is needed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """The content of config.json. `document` holds every key as it was read."""

    document: Mapping[str, Any] = field(default_factory=dict)

    def _text(self, key: str) -> str | None:
        value = self.document.get(key)
        return None if value in (None, "") else wire.text(value, f"config.json: {key}")

    def _number(self, key: str) -> int | None:
        value = self.document.get(key)
        return None if value in (None, "") else wire.number(value, f"config.json: {key}")

    @property
    def uuid(self) -> str | None:
        return self._text("uuid")

    @property
    def device_id(self) -> int | None:
        return self._number("deviceId")

    @property
    def application_id(self) -> int | None:
        return self._number("applicationId")

    @property
    def user_id(self) -> int | None:
        return self._number("userId")

    @property
    def device_type(self) -> str:
        return self._text("deviceType") or "generic-amd64"

    @property
    def provisioning_key(self) -> str | None:
        return self._text("apiKey")

    @property
    def device_key(self) -> str | None:
        return self._text("deviceApiKey")

    @property
    def api_endpoint(self) -> str | None:
        """Without a slash at its end."""
        return (self._text("apiEndpoint") or "").rstrip("/") or None

    @property
    def logs_endpoint(self) -> str | None:
        """Where logs go when not to the api."""
        return (self._text("logsEndpoint") or "").rstrip("/") or self.api_endpoint

    @property
    def delta_endpoint(self) -> str | None:
        """Where deltas are; without it, images are pulled whole."""
        return (self._text("deltaEndpoint") or "").rstrip("/") or None

    @property
    def registry_endpoint(self) -> str | None:
        """Host and port of the fleet's registry."""
        value = self._text("registryEndpoint")
        return value.removeprefix("https://").rstrip("/") if value else None

    @property
    def listen_port(self) -> int:
        port = self._number("listenPort") or DEFAULT_PORT
        if not 0 < port < 65536:
            raise ConfigError(f"config.json: listenPort is {port}: a port is 1 to 65535")
        return port

    @property
    def poll_seconds(self) -> float:
        """`appUpdatePollInterval` (milliseconds there); at least one second."""
        return max(1.0, (self._number("appUpdatePollInterval") or DEFAULT_POLL_MS) / 1000)

    @property
    def initial_name(self) -> str | None:
        return self._text("initialDeviceName")

    @property
    def registered_at(self) -> int | None:
        return self._number("registered_at")

    @property
    def registered(self) -> bool:
        """Whether the api knows this device under its own key."""
        known = self.registered_at is not None or self.device_id is not None
        return bool(self.uuid and self.device_key and (known or not self.provisioning_key))

    @property
    def root_ca(self) -> str | None:
        """The PEM text of the certificate authority to trust beside the system's.

        Raises:
            ConfigError: `balenaRootCA` is not base64 of PEM.
        """
        value = self._text("balenaRootCA")
        if value is None:
            return None
        try:
            pem = base64.b64decode(value, validate=False).decode("ascii")
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ConfigError(
                "config.json: balenaRootCA is not base64: give the PEM file's base64"
            ) from error
        if "-----BEGIN CERTIFICATE-----" not in pem:
            raise ConfigError("config.json: balenaRootCA holds no certificate in PEM form")
        return pem

    def changed(self, changes: Mapping[str, Any]) -> "DeviceConfig":
        """With these keys set; None removes a key."""
        document = {**self.document, **changes}
        return DeviceConfig({key: each for key, each in document.items() if each is not None})


class ConfigFile:
    """The doorway to config.json.

    Writes go to a temporary file beside it that is synced and renamed: FAT has no journal, and a
    device that forgets who it is must be provisioned anew by hand. `checkpoint` is called with a
    name at each point where power may be lost; tests stop the world there.
    """

    # One for all: they may be of the same file.
    _turn = threading.Lock()

    def __init__(self, path: Path, checkpoint: Callable[[str], None] | None = None) -> None:
        self.path = path
        self._checkpoint = checkpoint or (lambda _name: None)

    @property
    def _temporary(self) -> Path:
        return self.path.with_name(self.path.name + ".tmp")

    def read(self) -> DeviceConfig:
        """The device's configuration.

        Raises:
            ConfigError: neither the file nor a complete temporary copy of it can be read.
        """
        try:
            return self._read(self.path)
        except ConfigError as error:
            # Power was lost in a rename: FAT may then have only the new file under its old name.
            with contextlib.suppress(ConfigError):
                return self._read(self._temporary)
            raise error

    def update(self, changes: Mapping[str, Any]) -> bool:
        """Set these keys and keep all others; None removes one. Whether that changed anything.

        Raises:
            ConfigError: as `read` and `write`.
        """
        with self._turn:
            config = self.read()
            wanted = config.changed(changes)
            if wanted.document == config.document:
                return False
            self.write(wanted)
            return True

    @staticmethod
    def _read(path: Path) -> DeviceConfig:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be read ({error.strerror}): put the fleet's config.json there"
            ) from error
        try:
            config = DeviceConfig(wire.parse(content, str(path)))
            # Every typed key is looked at once, so that a wrong one is told now and not later.
            _ = (config.root_ca, config.registered, config.poll_seconds, config.listen_port)
            _ = (config.device_id, config.application_id, config.user_id, config.api_endpoint)
        except wire.WireError as error:
            raise ConfigError(f"{error}; correct the file or write it anew") from error
        return config

    def write(self, config: DeviceConfig) -> None:
        """Replace the file, whole or not at all.

        Raises:
            ConfigError: the boot partition cannot be written.
        """
        content = json.dumps(dict(config.document), indent=2).encode() + b"\n"
        try:
            self._checkpoint("before write")
            descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content[: len(content) // 2])
                self._checkpoint("half written")
                stream.write(content[len(content) // 2 :])
                stream.flush()
                os.fsync(stream.fileno())
            self._checkpoint("written")
            self._temporary.replace(self.path)
            self._checkpoint("renamed")
            directory = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise ConfigError(
                f"{self.path} cannot be written ({error.strerror}): the boot partition must be "
                "mounted for writing and have room"
            ) from error

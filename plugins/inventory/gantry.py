"""Ansible inventory plugin: the devices of a fleet, as its api lists them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable

if TYPE_CHECKING:
    from gantry.client.api_client import ApiClient
    from gantry.client.records import Device

DOCUMENTATION = """
name: gantry
short_description: The devices of a fleet, as its api lists them
description:
  - Asks the api as the user of C(gantry login) or C(gantry connect), or with a token.
  - The file's name ends in C(gantry.yml) or C(gantry.yaml).
  - "Hosts are in groups C(online) or C(offline), C(fleet_<application>), C(type_<device type>),
    C(release_<first 7 digits of the commit that runs>) and C(tag_<key>_<value>)."
  - "Each host has C(gantry_uuid), C(gantry_name), C(gantry_application), C(gantry_device_type),
    C(gantry_online), C(gantry_status), C(gantry_release), C(gantry_target_release),
    C(gantry_os_version), C(gantry_supervisor_version), C(gantry_addresses), C(gantry_last_seen) and
    C(gantry_tags)."
extends_documentation_fragment: [constructed]
options:
  plugin:
    description: C(gantry).
    required: true
    choices: [gantry]
  fleet:
    description: The fleet, a stack's name. By default the one that one is logged in to.
    type: str
    env: [{name: GANTRY_FLEET}]
  application:
    description: The application whose devices are meant. By default, all that the user sees.
    type: str
  token:
    description: A session token or API key, in place of the login.
    type: str
    env: [{name: GANTRY_TOKEN}]
  url:
    description: The api, in place of the one that the login names.
    type: str
    env: [{name: GANTRY_API_URL}]
  ca_file:
    description: The fleet's certificate authority, in place of the one that the login brought.
    type: path
    env: [{name: GANTRY_CA_FILE}]
  names:
    description: Only devices with such names; wildcards as in a shell.
    type: list
    elements: str
    default: []
  uuids:
    description: Only devices whose uuid begins so.
    type: list
    elements: str
    default: []
  tags:
    description: Only devices with these tags; an empty value means any.
    type: dict
    default: {}
  online:
    description: Only devices that are online, or only those that are not.
    type: bool
  hostname:
    description: What a host is called.
    type: str
    choices: [name, short_uuid, uuid]
    default: name
  user:
    description: Whom to log in as.
    type: str
    default: root
  port:
    description: Where devices listen for SSH.
    type: int
    default: 22222
"""

EXAMPLES = """
# inventories/devbots.gantry.yml
plugin: gantry
fleet: devbots
online: true
"""

SHORT = 7
# What playbooks mean something else by.
TAKEN = {"all", "ungrouped", "localhost", "127.0.0.1", "::1", "online", "offline"}


def host_names(devices: "Iterable[Device]", kind: str) -> "Iterator[tuple[str, Device]]":
    """Each device with its host's name; where two would be alike, with the uuid's beginning."""
    named = [(_host_name(each, kind), each) for each in devices]
    count = Counter(name for name, _ in named)
    for name, device in named:
        alike = count[name] > 1 or name in TAKEN
        yield (f"{name}-{device.uuid[:SHORT]}" if alike else name), device


def _host_name(device: "Device", kind: str) -> str:
    short = device.uuid[:SHORT]
    if kind == "name":
        # Patterns of hosts have a meaning for commas, colons, brackets and blanks.
        return re.sub(r"[^\w.-]+", "-", device.name).strip("-.") or short
    return device.uuid if kind == "uuid" else short


def addresses(device: "Device") -> list[str]:
    """Where the device said that it is; by mDNS where it has said nothing."""
    return (device.ip_address or "").split() or [f"{device.uuid[:SHORT]}.local"]


def groups(device: "Device") -> list[str]:
    """The names of the device's groups, before Ansible makes them safe."""
    found = ["online" if device.is_online else "offline"]
    found.append(f"fleet_{device.application.rpartition('/')[2]}")
    found.append(f"type_{device.device_type}")
    if device.commit:
        found.append(f"release_{device.commit[:SHORT]}")
    found += [f"tag_{key}_{value}" if value else f"tag_{key}" for key, value in device.tags.items()]
    return found


def variables(device: "Device") -> dict[str, Any]:
    """What playbooks may know of the device. The names of the api's own, in short."""
    return {
        "gantry_addresses": (device.ip_address or "").split(),
        "gantry_application": device.application,
        "gantry_device_type": device.device_type,
        "gantry_last_seen": device.last_seen,
        "gantry_name": device.name,
        "gantry_online": device.is_online,
        "gantry_os_version": device.os_version,
        "gantry_release": device.commit,
        "gantry_status": device.status,
        "gantry_supervisor_version": device.supervisor_version,
        "gantry_tags": device.tags,
        "gantry_target_release": device.target_commit,
        "gantry_uuid": device.uuid,
    }


class InventoryError(Exception):
    """The devices cannot be listed; the message says why and what to do."""


class InventoryModule(BaseInventoryPlugin, Constructable):  # type: ignore[misc] # has no types
    """Ansible's entry point."""

    NAME = "gantry"

    def verify_file(self, path: str) -> bool:
        """Whether the file is for this plugin."""
        return super().verify_file(path) and path.endswith(("gantry.yml", "gantry.yaml"))

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Ask the api, and fill the inventory.

        Raises:
            SystemExit: with one sentence. Any other error is a warning to Ansible among several: a
                playbook would go on without hosts, and end well.
        """
        super().parse(inventory, loader, path, cache)
        try:
            self._check(self._read_config_data(path))
            found = self._devices()
        except (AnsibleError, InventoryError) as error:
            raise SystemExit(f"{path}: {error}") from error
        for name, device in host_names(filter(self._wanted, found), self.get_option("hostname")):
            self._add(name, device)

    def _devices(self) -> "list[Device]":
        try:
            from gantry.client.errors import ClientError
        except ImportError as error:
            raise InventoryError(
                "this Python has no Gantry: use .venv/bin/ansible-playbook of a checkout after "
                "`make setup`"
            ) from error
        try:
            with self._client() as client:
                named = self.get_option("application")
                return client.devices(client.application(named) if named else None)
        except ClientError as error:
            raise InventoryError(str(error)) from error

    def _check(self, given: dict[str, Any]) -> None:
        # Ansible passes over what it does not know, and takes any text for false: a filter with a
        # slip in it would match other devices than are meant.
        known = set(self.get_options()) | {"plugin"}
        if unknown := sorted(set(given) - known):
            there = ", ".join(sorted(known))
            raise InventoryError(f"unknown keys: {', '.join(unknown)}. Known are {there}")
        online = given.get("online")
        if online is not None and not isinstance(online, bool):
            raise InventoryError(f"online is {online!r}: write true or false")

    def _client(self) -> "ApiClient":
        from gantry.client import session
        from gantry.client.api_client import ApiClient, open_fleet
        from gantry.client.errors import ClientError

        fleet = session.choose_fleet(self.get_option("fleet"))
        token, url, ca_file = (self.get_option(name) for name in ("token", "url", "ca_file"))
        if not (token or url or ca_file):
            return open_fleet(fleet)
        kept = None
        if not (token and url):
            try:
                kept = session.load(fleet)
            except ClientError as error:
                missing = "url" if token else "token"
                raise ClientError(f"{error}; or give {missing} too") from error
        certificate = Path(ca_file) if ca_file else session.ca_path(fleet)
        return ApiClient(
            url or (kept.url if kept else ""),
            token or (kept.token if kept else None),
            certificate if ca_file or certificate.exists() else None,
            fleet=fleet,
        )

    def _wanted(self, device: "Device") -> bool:
        names, uuids = self.get_option("names"), self.get_option("uuids")
        online = self.get_option("online")
        tags = {key: value or "" for key, value in self.get_option("tags").items()}
        return (
            (not names or any(fnmatchcase(device.name, each) for each in names))
            and (not uuids or device.uuid.startswith(tuple(uuids)))
            and (online is None or device.is_online == online)
            and all(
                key in device.tags and str(value) in ("", device.tags[key])
                for key, value in tags.items()
            )
        )

    def _add(self, name: str, device: "Device") -> None:
        self.inventory.add_host(name)
        known = variables(device)
        known["ansible_host"] = addresses(device)[0]
        known["ansible_port"] = self.get_option("port")
        known["ansible_user"] = self.get_option("user")
        for variable, value in known.items():
            self.inventory.set_variable(name, variable, value)
        for each in groups(device):
            group = self.inventory.add_group(self._sanitize_group_name(each))
            self.inventory.add_child(group, name)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), known, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), known, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), known, name, strict=strict)

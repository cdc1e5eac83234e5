"""What is deployed: a file that is written whole, and on disk, after every step.

Resources are kept as Pulumi keeps them in a deployment of version 3, so that an export is a copy.
Format: https://github.com/pulumi/pulumi/blob/master/sdk/go/common/apitype/core.go
"""

import contextlib
import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from gantry.deployment.engine.values import EngineError, Properties, Vault

OWNER = "gantry"
FORMAT = 1


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.title() for word in rest)


@dataclass(frozen=True)
class Resource:
    """One resource, as registered and as made. Names are Pulumi's, in snake case."""

    urn: str
    type: str
    custom: bool = True
    id: str = ""
    inputs: Properties = field(default_factory=dict)
    outputs: Properties = field(default_factory=dict)
    parent: str = ""
    dependencies: tuple[str, ...] = ()
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    provider: str = ""
    """Named in an export only: the engine finds what makes a resource by its type."""
    protect: bool = False
    retain_on_delete: bool = False
    additional_secret_outputs: tuple[str, ...] = ()
    init_errors: tuple[str, ...] = ()
    """Made, but not as it should be: the next `up` sees to it."""
    delete: bool = False
    """Replaced, and still to be deleted."""
    pending_replacement: bool = False
    """Deleted, and still to be made anew."""

    @property
    def name(self) -> str:
        return self.urn.rsplit("::", 1)[-1]

    @property
    def needs(self) -> set[str]:
        """URNs that must exist as long as this one does."""
        used = {urn for urns in self.property_dependencies.values() for urn in urns}
        return ({*self.dependencies, self.parent} | used) - {""}

    def to_json(self) -> dict[str, Any]:
        pairs = {_camel(f.name): getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in pairs.items() if v or k in ("custom", "urn", "type")}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        known = {_camel(f.name): f.name for f in fields(cls)}
        given: dict[str, Any] = {
            known[key]: tuple(value) if isinstance(value, list) else value
            for key, value in data.items()
        }
        return cls(**given)


@dataclass(frozen=True)
class Pending:
    """A step that was begun. It stays in the file when the engine is killed in it."""

    resource: Resource
    type: str
    """creating, updating or deleting"""
    since: float
    """Unix time, seconds"""


class State:
    """The resources of one stack. Safe to use from several threads."""

    def __init__(self, path: Path, stack: str, passphrase_file: Path) -> None:
        """Read the file, or begin an empty state.

        Raises:
            EngineError: the file is not ours, or the passphrase does not open it.
        """
        self.path = path
        self.stack = stack
        self._lock = threading.RLock()
        self.resources: dict[str, Resource] = {}
        self.doomed: list[Resource] = []
        self.pending: dict[str, Pending] = {}
        data: dict[str, Any] = {}
        if path.exists():
            try:
                data = json.loads(path.read_text())
            except ValueError as error:
                raise EngineError(f"{path} is damaged ({error}): restore it from a copy") from error
            if data.get("engine") != OWNER or data.get("format") != FORMAT:
                raise EngineError(
                    f"{path} is of engine {data.get('engine')!r}, format {data.get('format')!r}; "
                    f"this engine writes {OWNER!r}, {FORMAT}: use the version that wrote it"
                )
        self._salt = data.get("salt") or secrets.token_hex(16)
        self._vault = Vault(passphrase_file, bytes.fromhex(self._salt))
        for entry in self._vault.unseal(data.get("resources", [])):
            resource = Resource.from_json(entry)
            if resource.delete:
                self.doomed.append(resource)
            else:
                self.resources[resource.urn] = resource
        for entry in self._vault.unseal(data.get("pending_operations", [])):
            resource = Resource.from_json(entry["resource"])
            self.pending[resource.urn] = Pending(resource, entry["type"], entry["since"])

    def everything(self) -> list[Resource]:
        """All resources, those that only wait for their deletion too."""
        with self._lock:
            return [*self.resources.values(), *self.doomed]

    @contextlib.contextmanager
    def step(self, resource: Resource, kind: str) -> Iterator[None]:
        """Record that a step has begun, and, if it fails or ends, that it has not any more."""
        with self._lock:
            self.pending[resource.urn] = Pending(resource, kind, time.time())
            self.save()
        try:
            yield
        finally:
            self.settle(resource.urn)

    def settle(self, urn: str) -> None:
        """Nothing is pending for this resource any more."""
        with self._lock:
            if self.pending.pop(urn, None):
                self.save()

    def put(self, resource: Resource) -> None:
        with self._lock:
            if self.resources.get(resource.urn) != resource or resource.urn in self.pending:
                self.resources[resource.urn] = resource
                self.pending.pop(resource.urn, None)
                self.save()

    def rename(self, old: str, resource: Resource) -> None:
        """Keep a resource under another URN, in those that refer to it too (aliases)."""

        def new(value: Any) -> Any:
            return json.loads(json.dumps(value).replace(json.dumps(old), json.dumps(resource.urn)))

        with self._lock:
            del self.resources[old]
            for other in list(self.resources.values()):
                parent = resource.urn if other.parent == old else other.parent
                self.resources[other.urn] = replace(
                    other,
                    parent=parent,
                    dependencies=tuple(new(list(other.dependencies))),
                    property_dependencies=new(other.property_dependencies),
                )
            self.resources[resource.urn] = resource
            self.save()

    def doom(self, resource: Resource) -> None:
        """Its replacement exists: what is left of it is deleted at the end."""
        with self._lock:
            self.doomed.append(replace(resource, delete=True))
            self.resources.pop(resource.urn, None)
            self.save()

    def drop(self, resource: Resource) -> None:
        """The resource is gone."""
        with self._lock:
            if resource.delete:
                self.doomed = [r for r in self.doomed if r is not resource]
            else:
                self.resources.pop(resource.urn, None)
            self.pending.pop(resource.urn, None)
            self.save()

    def save(self) -> None:
        """Write the file; a state without resources is no file."""
        with self._lock:
            if not self.resources and not self.doomed and not self.pending:
                self.path.unlink(missing_ok=True)
                return
            data = {
                "engine": OWNER,
                "format": FORMAT,
                "stack": self.stack,
                "salt": self._salt,
                "resources": [self._vault.seal(r.to_json()) for r in self.everything()],
                "pending_operations": [
                    {
                        "resource": self._vault.seal(p.resource.to_json()),
                        "type": p.type,
                        "since": p.since,
                    }
                    for p in self.pending.values()
                ],
            }
            write_private(self.path, json.dumps(data, indent=1))


def write_private(path: Path, text: str) -> None:
    """Replace a file in one move, mode 0600; afterwards it is on disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def exclusive(path: Path, stack: str) -> Iterator[None]:
    """Only one engine works on a stack. The kernel lets go of the lock when its process ends.

    Raises:
        EngineError: another process holds it; says which.
    """
    with path.open("a+") as file:
        os.fchmod(file.fileno(), 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise EngineError(
                f"stack {stack} is being worked on by process {file.read().strip() or 'unknown'}: "
                "wait until it has ended"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield

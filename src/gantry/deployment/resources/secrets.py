"""Random secrets: made once; kept in the fleet's volume too where they must outlive the state."""

import secrets
from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider

from gantry.deployment.resources.kept import kept_in

DEFAULT_BYTES = 32


class RandomSecretProvider(ResourceProvider):
    """Makes 8 × `bytes` bits from the system's source, as URL-safe text."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Adopt what the volume keeps under `keep_as`, else make one and keep it there.

        Raises:
            KeptError: the volume could not be read or written.
        """
        value = secrets.token_urlsafe(int(props["bytes"]))
        name, volume = props.get("keep_as"), props.get("volume")
        if name and volume:
            with kept_in(str(volume)) as kept:
                found = kept.read(str(name))
                if found is None:
                    kept.write(str(name), value)
                value = found or value
        return CreateResult(str(name or "random"), {**props, "value": value})

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """A secret changes only when it is replaced on purpose (`pulumi up --replace`)."""
        return DiffResult(changes=False)


class RandomSecret(Resource, module="gantry", name="RandomSecret"):
    """A random secret; `value` is its text."""

    value: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        volume: pulumi.Input[str] | None = None,
        keep_as: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["value"])
        props = {"bytes": DEFAULT_BYTES, "volume": volume, "keep_as": keep_as, "value": None}
        super().__init__(
            RandomSecretProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret)
        )

"""The SSH host key of a fleet's git server: users know it, so it outlives the state."""

from typing import Any

import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider

from gantry.deployment.certificates import make_ssh_key, ssh_key_from_private
from gantry.deployment.resources.kept import kept_in

HOST_KEY_FILE = "ssh_host_ed25519_key"


class SshHostKeyProvider(ResourceProvider):
    """Makes a key once, and adopts it from the fleet's volume ever after."""

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Adopt the volume's key, else make one and keep it there.

        Raises:
            KeptError: the volume could not be read or written.
            ValueError: what it keeps is not an Ed25519 key.
        """
        with kept_in(str(props["volume"])) as kept:
            text = kept.read(HOST_KEY_FILE)
            pair = ssh_key_from_private(text) if text else make_ssh_key()
            if text is None:
                kept.write(HOST_KEY_FILE, pair.private_pem)
        outs = {**props, "private_pem": pair.private_pem, "public": pair.public}
        return CreateResult(HOST_KEY_FILE, outs)

    def diff(self, _id: str, _olds: dict[str, Any], _news: dict[str, Any]) -> DiffResult:
        """Users have noted this one key: no setting makes another."""
        return DiffResult(changes=False)


class SshHostKey(Resource, module="gantry", name="SshHostKey"):
    """An SSH host key; `public` is the value for known_hosts, `private_pem` is secret."""

    private_pem: pulumi.Output[str]
    public: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        volume: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        secret = pulumi.ResourceOptions(additional_secret_outputs=["private_pem"])
        props = {"volume": volume, "private_pem": None, "public": None}
        super().__init__(
            SshHostKeyProvider(), name, props, pulumi.ResourceOptions.merge(opts, secret)
        )

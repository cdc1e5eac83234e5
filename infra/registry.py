"""The registry of a fleet's images."""

import pulumi

from config import StackConfig
from gantry.deployment.resources.bucket import Bucket
from gantry.registry.config import DATA_FOLDER, LISTEN_PORT, TokenAuth, registry_config
from identity import Identity
from network import Networks
from service import Attachment, Service, Spec, http_probe

# The collector's too: it works on the same files.
USER = "10003:10003"


class Registry(Service):
    """Reached inside as `http://registry:5000`; its public name leads through the proxy."""

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        storage = config.bucket()
        auth = TokenAuth(
            realm=f"{config.url('api')}/auth/v1/token",
            service=config.authority("registry"),
            issuer=f"api.{config.host}",
        )
        document = identity.registry_secret.apply(
            lambda secret: registry_config(
                auth, secret, storage=storage, public_url=config.url("registry")
            )
        )
        attachments = [Attachment(networks.internal, ("registry",))]
        depends: list[pulumi.Resource] = []
        if storage:
            attachments.append(Attachment(networks.egress))
            depends.append(Bucket("registry-bucket", storage, opts))
        spec = Spec(
            name="registry",
            user=USER,
            memory=config.memory.registry,
            probe=http_probe(f"http://127.0.0.1:{LISTEN_PORT}/"),
            attachments=tuple(attachments),
            data=None if storage else DATA_FOLDER,
            files={
                "registry.yml": document,
                "token.crt": identity.token.certificate_pem,
            },
        )
        after = pulumi.ResourceOptions(depends_on=depends)
        super().__init__(config, spec, pulumi.ResourceOptions.merge(opts, after))

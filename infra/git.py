"""The git server: one of the two services that publish a port."""

import pulumi

import api
import builder
from config import StackConfig
from identity import Identity
from network import Networks
from service import PYTHON_USER, Attachment, Service, Spec

SSH_PORT = 2222


class Git(Service):
    """Reached by users as `<user>@<host>` at the stack's git port; inside it is always 2222."""

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        document = pulumi.Output.json_dumps(
            {
                "fleet": config.fleet,
                "host": config.host,
                "https_port": config.https_port,
                "git_port": config.git_port,
                "api_url": api.URL,
                "builder_url": builder.URL,
                "service_key": identity.service_keys["git"],
            }
        )
        spec = Spec(
            name="git",
            user=PYTHON_USER,
            memory=config.memory.git,
            probe=("CMD", "python3", "-m", "gantry.git", "health"),
            attachments=(
                Attachment(networks.internal, ("git",)),
                Attachment(networks.edge, (config.host,)),
            ),
            # It starts an interpreter, so less often than the others.
            probe_seconds=10,
            data="/data",
            files={
                "git.json": document,
                "ssh_host_ed25519_key": identity.ssh_host_key.private_pem,
            },
            ports={SSH_PORT: config.git_port},
        )
        super().__init__(config, spec, opts)

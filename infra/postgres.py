"""PostgreSQL: the api's database."""

import pulumi

from config import StackConfig
from identity import Identity
from network import Networks
from service import Attachment, Service, Spec

SETTINGS = """\
max_connections = 100
shared_buffers = 128MB
password_encryption = scram-sha-256
log_timezone = UTC
timezone = UTC
# The container's log is the only one; statements may hold what is not for logs.
log_min_error_statement = panic
"""


class Postgres(Service):
    """Reached inside as `postgres:5432`, by the role and database `gantry`."""

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        spec = Spec(
            name="postgres",
            user="10002:10002",
            memory=config.memory.postgres,
            probe=("CMD", "/usr/local/bin/healthy"),
            attachments=(Attachment(networks.internal, ("postgres",)),),
            data="/var/lib/postgresql/data",
            files={
                "postgres-password": identity.database_password,
                "postgresql.conf": SETTINGS,
            },
            stop_seconds=60,
        )
        super().__init__(config, spec, opts)
        self.url = pulumi.Output.format(
            "postgresql+psycopg://gantry:{0}@postgres:5432/gantry", identity.database_password
        )

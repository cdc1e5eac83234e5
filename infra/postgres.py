"""PostgreSQL: the api's database."""

import pulumi

from config import StackConfig
from identity import Identity
from network import Networks
from service import Attachment, Service, Spec

SETTINGS = """\
max_connections = 100
shared_buffers = 128MB
# Solid state: a row by an index costs little more than the next one of a table.
random_page_cost = 1.1
# Requests are short; what this would save them is less than it takes.
jit = off
# A fleet that grows is looked at before plans made for a small one hurt.
autovacuum_naptime = 15s
# Less to write between two syncs, which all writers wait for.
wal_compression = on
checkpoint_timeout = 15min
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

"""The logs service."""

import pulumi

import api
import nats
from config import StackConfig
from identity import Identity
from network import Networks
from service import PYTHON_USER, Attachment, Service, Spec, http_probe


class Logs(Service):
    """Reached inside as `http://logs:8080`; outside through the proxy."""

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
                "api_url": api.URL,
                "service_key": identity.service_keys["logs"],
                "nats_url": nats.URL,
                "nats_token": identity.nats_token,
                "retention_lines": config.logs.lines,
                "retention_days": config.logs.days,
            }
        )
        # /healthy, not /ping: without JetStream no line is kept.
        spec = Spec(
            name="logs",
            user=PYTHON_USER,
            memory=config.memory.logs,
            probe=http_probe("http://127.0.0.1:8080/healthy"),
            attachments=(Attachment(networks.internal, ("logs",)),),
            files={"logs.json": document},
        )
        super().__init__(config, spec, opts)

"""The collector, which removes from the registry what nobody needs."""

from dataclasses import asdict

import pulumi

import api
import deltas
from config import StackConfig
from gantry.registry.config import DATA_FOLDER, LISTEN_PORT
from identity import Identity
from network import Networks
from registry import USER, Registry
from service import Attachment, Service, Spec

# It starts no interpreter: what is looked at is a file that the collector touches.
PROBE = ("CMD", "sh", "-c", "find /run/gantry/alive -newermt '-60 seconds' | grep -q .")


class Collector(Service):
    """It listens nowhere: it asks the api what there is to do, and works on the registry's files.

    As the registry's user, with the registry's volume, or its bucket.
    """

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        registry: Registry,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        storage = config.bucket()
        document = pulumi.Output.json_dumps(
            {
                "api_url": api.URL,
                "registry_url": f"http://registry:{LISTEN_PORT}",
                "deltas_url": deltas.URL,
                "service": config.authority("registry"),
                "deltas_service": config.authority("delta"),
                "service_key": identity.service_keys["collector"],
                "folder": DATA_FOLDER,
                "storage": asdict(storage) if storage else None,
            }
        )
        attachments = [Attachment(networks.internal, ("collector",))]
        if storage:
            attachments.append(Attachment(networks.egress))
        spec = Spec(
            name="collector",
            user=USER,
            memory=config.memory.collector,
            probe=PROBE,
            attachments=tuple(attachments),
            shared=((registry.volume, DATA_FOLDER),) if registry.volume else (),
            files={"collector.json": document},
            probe_seconds=10,
        )
        super().__init__(config, spec, opts)

"""The api."""

import pulumi

from config import StackConfig
from identity import Identity
from network import Networks
from service import PYTHON_USER, Attachment, Service, Spec, http_probe

URL = "http://api:8080"


class Api(Service):
    """Reached inside as `http://api:8080`; outside through the proxy."""

    def __init__(
        self,
        config: StackConfig,
        networks: Networks,
        identity: Identity,
        database_url: pulumi.Output[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        document = pulumi.Output.json_dumps(
            {
                "fleet": config.fleet,
                "host": config.host,
                "https_port": config.https_port,
                "git_port": config.git_port,
                "vpn_port": config.vpn_port,
                "device_type": config.device_type,
                "database_url": database_url,
                "admin_username": config.admin_username,
                "admin_password": identity.admin_password,
                "session_secret": identity.session_secret,
                "data_key": identity.data_key,
                "token_key_pem": identity.token.key_pem,
                "token_certificate_pem": identity.token.certificate_pem,
                "ca_certificate_pem": identity.authority.certificate_pem,
                "service_keys": identity.service_keys,
                "registry_space": config.registry.for_the_api(),
            }
        )
        spec = Spec(
            name="api",
            user=PYTHON_USER,
            memory=config.memory.api,
            probe=http_probe("http://127.0.0.1:8080/ping"),
            attachments=(Attachment(networks.internal, ("api",)),),
            files={"api.json": document},
        )
        super().__init__(config, spec, opts)

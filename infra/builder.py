"""The builder: a Docker Engine of its own, and the one service with root and wide capabilities."""

import pulumi

import api
from config import StackConfig
from identity import Identity
from network import Networks
from service import Attachment, Powers, Service, Spec, http_probe

URL = "http://builder:8080"
GIB = 1024**3

# Everything that the builder may do and no other service may. Trust in it equals trust in the
# host (docs/decisions/0004-the-builders-powers.md). By name, never `privileged`: that asks for
# capabilities which a container's host may not have itself.
POWERS = Powers(
    capabilities=(
        # Docker's own set, without which images do not unpack and build steps do not run:
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
        # For the engine inside: mounts and namespaces, its bridge and its rules, its processes.
        "NET_ADMIN",
        "SYS_ADMIN",
        "SYS_PTRACE",
    ),
    # Mounts are what both profiles forbid first. Set-uid programs in builds (sudo, ping) are why
    # no-new-privileges is not here: every build step would inherit it.
    security_options=("seccomp=unconfined", "apparmor=unconfined"),
    # The engine inside makes control groups for its containers beside its own.
    cgroup_namespace="host",
    binds=(("/sys/fs/cgroup", "/sys/fs/cgroup"),),
)


class Builder(Service):
    """Reached inside as `http://builder:8080`."""

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
                "device_type": config.device_type,
                "api_url": api.URL,
                "service_key": identity.service_keys["builder"],
                "accepted_keys": [identity.service_keys["git"]],
                "ca_certificate_pem": identity.authority.certificate_pem,
                "limits": {
                    "build_seconds": config.builds.seconds,
                    "memory_bytes": config.builds.memory * GIB,
                    "disk_bytes": config.builds.disk * GIB,
                    "concurrent_builds": config.builds.concurrent,
                },
            }
        )
        spec = Spec(
            name="builder",
            user="0:0",
            memory=config.memory.builder,
            probe=http_probe("http://127.0.0.1:8080/ping"),
            attachments=(
                Attachment(networks.internal, ("builder",)),
                Attachment(networks.egress),
            ),
            data="/var/lib/docker",
            files={"builder.json": document},
            tmpfs={"/run": "rw,nosuid,nodev,mode=0755"},
            powers=POWERS,
            stop_seconds=60,
            wait_seconds=300,
        )
        super().__init__(config, spec, opts)

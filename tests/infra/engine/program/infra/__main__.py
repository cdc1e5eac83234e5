"""What the tests of the built-in engine deploy. The stack's configuration picks what is in it."""

import json

import pulumi
import pulumi_docker as docker
from dynamics import File  # type: ignore[import-not-found]

from gantry.deployment.resources.certificates import Certificate, CertificateAuthority

config = pulumi.Config()
prefix = pulumi.get_stack()
label = docker.ContainerLabelArgs(label="gantry.test", value=prefix)


class Cloud(pulumi.ComponentResource):
    def __init__(self) -> None:
        super().__init__("enginetest:index:Cloud", "cloud")
        own = pulumi.ResourceOptions(parent=self)
        secret = File(
            "secret",
            config.require("file"),
            config.get("text") or "hush-hush",
            config.get_float("seconds") or 0,
            parent=self,
            additional_secret_outputs=["text"],
        )
        network = docker.Network(
            "network",
            name=f"{prefix}-net",
            labels=[{"label": "shade", "value": config.get("shade") or "blue"}],
            opts=own,
        )
        volume = docker.Volume(
            "volume",
            name=f"{prefix}-data",
            opts=pulumi.ResourceOptions(parent=self, retain_on_delete=True),
        )
        health = config.get("health") or "true"
        self.container = docker.Container(
            "service",
            name=f"{prefix}-service",
            image=config.require("image"),
            restart="unless-stopped",
            memory=config.get_int("memory") or 32,
            memory_swap=config.get_int("memory") or 32,
            labels=[label],
            networks_advanced=[
                docker.ContainerNetworksAdvancedArgs(name=network.name, aliases=["service"])
            ],
            volumes=[docker.ContainerVolumeArgs(volume_name=volume.name, container_path="/data")],
            uploads=[
                docker.ContainerUploadArgs(
                    file="/etc/gantry/service.json",
                    content=secret.text.apply(lambda text: json.dumps({"password": text})),
                    permissions="0440",
                )
            ],
            ports=[docker.ContainerPortArgs(internal=80, ip="127.0.0.1")],
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=["CMD-SHELL", health], interval="1s", retries=1
            ),
            capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"], adds=["CHOWN"]),
            security_opts=["no-new-privileges:true"],
            tmpfs={"/run": "size=1m"},
            log_driver="json-file",
            log_opts={"max-size": "1m"},
            wait=True,
            wait_timeout=config.get_int("patience") or 20,
            opts=own,
        )
        pulumi.export("address", self.container.network_datas[0].ip_address)
        pulumi.export("length", secret.length)
        pulumi.export("password", secret.text)
        self.register_outputs({})


cloud = Cloud()
extra = config.get("extra")
if extra == "second":
    docker.Volume("second", name=f"{prefix}-second")
if extra == "certificates":
    kept = docker.Volume("kept", name=f"{prefix}-kept")
    authority = CertificateAuthority("authority", common_name="bots", volume=kept.name)
    leaf = Certificate("leaf", authority=authority, common_name="vpn.bots", dns_names=["vpn.bots"])
    files = {"tls.crt": leaf.certificate_pem, "ca.crt": authority.certificate_pem}
    docker.Container(
        "server",
        name=f"{prefix}-server",
        image=config.require("image"),
        uploads=[
            docker.ContainerUploadArgs(file=f"/etc/{name}", content=text)
            for name, text in files.items()
        ],
        must_run=True,
    )
if extra == "protected":
    docker.Volume("second", name=f"{prefix}-second", opts=pulumi.ResourceOptions(protect=True))
if extra == "unknown type":
    docker.RemoteImage("image", name="busybox")
if extra == "invoke":
    docker.get_network(name="bridge")
if extra == "provider":
    docker.Provider("here", host="unix:///var/run/docker.sock")
if extra == "option":
    ignore = pulumi.ResourceOptions(ignore_changes=["labels"])
    docker.Volume("second", name=f"{prefix}-second", opts=ignore)
if extra == "property":
    docker.Volume("second", name=f"{prefix}-second", driver="local")
if extra == "property of a block":
    to = docker.ContainerNetworksAdvancedArgs(name="bridge", ipv4_address="192.0.2.1")
    docker.Container("second", name=f"{prefix}-second", image="none", networks_advanced=[to])
if extra == "no name":
    docker.Volume("second")
if extra == "error":
    docker.Volume("second", name=f"{prefix}-second")
    cloud.container.id.apply(lambda _: 1 // 0)
if extra == "renamed":
    docker.Volume(
        "third",
        name=f"{prefix}-second",
        opts=pulumi.ResourceOptions(aliases=[pulumi.Alias(name="second")]),
    )

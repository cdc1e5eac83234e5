"""A fleet's networks: one inside, one at the edge, and a way out for the few that need one."""

import pulumi
import pulumi_docker as docker

from service import fleet_labels


class Networks(pulumi.ComponentResource):
    """`internal` joins all services and leads nowhere else; `edge` is where devices and users are;
    `egress` lets the builder fetch what builds need, and registry and collector reach their bucket.
    """

    def __init__(self, fleet: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("gantry:fleet:Networks", f"{fleet}-networks", None, opts)
        self.internal = self._network(fleet, "internal", closed=True)
        self.edge = self._network(fleet, "edge")
        self.egress = self._network(fleet, "egress")
        self.register_outputs({})

    def _network(self, fleet: str, name: str, *, closed: bool = False) -> docker.Network:
        return docker.Network(
            name,
            name=f"gantry-{fleet}-{name}",
            driver="bridge",
            internal=closed,
            labels=[
                docker.NetworkLabelArgs(label=each.label, value=each.value)
                for each in fleet_labels(fleet)
            ],
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )

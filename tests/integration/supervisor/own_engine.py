"""An engine that a test may kill: dockerd and containerd in a container, started anew as systemd
does. Its socket is in a folder of the test; nobody else's engine hears of it."""

import hashlib
import io
import json
import os
import secrets
import socket
import tarfile
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container
from docker.types import Mount

from gantry.deployment.images import build_image
from tests.integration.supervisor.conftest import wait_until

# What an engine in a container needs beside the ordinary rights.
CAPABILITIES = ["SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "MKNOD"]
DOCKERFILE = """FROM {base}
USER root
RUN apt-get update \
    && apt-get install -y --no-install-recommends containerd docker.io iptables \
    && rm -rf /var/lib/apt/lists/*
COPY run /usr/local/bin/run
ENTRYPOINT ["/bin/sh", "/usr/local/bin/run"]
"""
RUN = """set -eu
mount -o remount,rw /proc/sys
if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    # Version 2: only a group without processes hands its controllers on.
    mount -o remount,rw /sys/fs/cgroup
    mkdir -p /sys/fs/cgroup/init
    while read -r id; do echo "$id" > /sys/fs/cgroup/init/cgroup.procs || true; done \
        < /sys/fs/cgroup/cgroup.procs
    for each in $(cat /sys/fs/cgroup/cgroup.controllers); do
        echo "+$each" > /sys/fs/cgroup/cgroup.subtree_control || true
    done
    parent=/engine
else
    own=$(sed -n 's/^[0-9]*:\\([^:]*,\\)\\{0,1\\}memory\\(,[^:]*\\)\\{0,1\\}:\\(.*\\)$/\\3/p' \
        /proc/self/cgroup)
    parent=${own%/}/engine
fi
mkdir -p /etc/docker
echo "$SETTINGS" > /etc/docker/daemon.json
containerd --log-level error &
while true; do
    rm -f /run/docker.pid
    dockerd --host "unix://$SOCKET" --group "$GROUP" --cgroup-parent "$parent" \
        --containerd /run/containerd/containerd.sock --insecure-registry "$REGISTRY" \
        --pidfile /run/docker.pid --log-level error $OPTIONS || true
    sleep 0.5
done
"""

# What test applications are started with, and their parent.
APPLICATION = "/bin/sh /run "
SHIM = "containerd-shim"
PROCESSES = """for each in /proc/[0-9]*; do
    { stat=$(cat $each/stat) && command=$(tr '\\0' ' ' < $each/cmdline); } 2>/dev/null || continue
    rest=${stat##*) }
    set -- $rest
    echo "${each#/proc/} $2 $command"
done"""


def engine_image(client: docker.DockerClient) -> str:
    """The name of the engine's image; it is built where it is missing."""
    base = build_image("registry", lambda *_: None)
    recipe = hashlib.sha256(f"{base.hash}{DOCKERFILE}{RUN}".encode()).hexdigest()
    tag = f"supervisor-test/engine:{recipe[:12]}"
    if client.images.list(name=tag):
        return tag
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in (("Dockerfile", DOCKERFILE.format(base=base.tag)), ("run", RUN)):
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    context.seek(0)
    client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
    return tag


def gateway(client: docker.DockerClient) -> str:
    """This machine's address, as containers on the default bridge reach it."""
    pools = client.networks.get("bridge").attrs["IPAM"]["Config"]
    return str(pools[0].get("Gateway") or "172.17.0.1")


class OwnEngine:
    """One such engine. `disk` limits its data in megabytes, in memory; with `snapshotter`, images
    are in containerd's store. `storage` is where its data are as this machine sees them. With
    `bridge`, a bridge of this machine's, it is on this machine's network, as a device's is."""

    def __init__(
        self,
        outer: docker.DockerClient,
        home: Path,
        disk: int | None = None,
        snapshotter: bool = False,
        bridge: str | None = None,
    ) -> None:
        self.gateway = gateway(outer)
        folder = home / "engine"
        folder.mkdir()
        self.socket = folder / "docker.sock"
        where = "/var/lib/containerd" if snapshotter else "/var/lib/docker"
        self.container: Container = outer.containers.run(
            engine_image(outer),
            detach=True,
            init=True,
            network_mode="host" if bridge else None,
            name=f"supervisor-test-engine-{secrets.token_hex(4)}",
            cap_add=CAPABILITIES,
            security_opt=["seccomp=unconfined", "apparmor=unconfined"],
            cgroupns="host" if not Path("/sys/fs/cgroup/cgroup.controllers").exists() else None,
            environment={
                "SOCKET": str(self.socket),
                "GROUP": str(os.getgid()),
                "REGISTRY": f"{self.gateway}/32",
                "OPTIONS": f"--bridge {bridge} --iptables=false" if bridge else "",
                "SETTINGS": json.dumps({"features": {"containerd-snapshotter": snapshotter}}),
            },
            # Lock folders of services are the same on both sides, as on a device.
            volumes=[f"{home}:{home}", "/sys/fs/cgroup:/sys/fs/cgroup:rw"],
            mounts=[] if disk else [Mount(where, None, type="volume")],
            tmpfs={"/run": ""} | ({where: f"size={disk}m,exec"} if disk else {}),
        )
        mounts = self.container.attrs["Mounts"]
        self.storage = next((e["Source"] for e in mounts if e["Destination"] == where), None)
        # A version that is named is not asked for: there may be no socket yet.
        url = f"unix://{self.socket}"
        self.client = docker.DockerClient(base_url=url, version="1.41", timeout=120)
        try:
            wait_until("the engine of the test", self.answers)
        except AssertionError as error:
            log = self.container.logs(tail=50).decode()
            self.close()
            raise AssertionError(log) from error

    def get(self, path: str) -> Any:
        """An answer of its API; None while it does not answer. (Clients leave sockets open when
        nobody listens, and warnings are errors here.)"""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            try:
                connection.connect(str(self.socket))
                connection.sendall(f"GET {path} HTTP/1.0\r\nHost: engine\r\n\r\n".encode())
                with connection.makefile("rb") as answer:
                    return json.loads(answer.read().partition(b"\r\n\r\n")[2])
            except (OSError, ValueError):
                return None

    def answers(self) -> bool:
        return self.get("/version") is not None

    def containers(self) -> list[tuple[str, str]] | None:
        """Image and state of every container; None while it does not answer."""
        found = self.get("/containers/json?all=1")
        return None if found is None else [(each["Image"], each["State"]) for each in found]

    def images(self) -> list[str]:
        """Names by digest of every image."""
        found = self.get("/images/json?digests=1") or []
        return [name for each in found for name in each["RepoDigests"] or []]

    def sh(self, script: str) -> str:
        """Run a line of shell beside the engine."""
        status, output = self.container.exec_run(["sh", "-c", script])
        assert isinstance(output, bytes)
        assert status == 0, output.decode()
        return output.decode()

    def kill(self) -> None:
        """kill -9 of dockerd; it is started anew half a second later."""
        self.sh("kill -9 $(cat /run/docker.pid)")

    def strays(self) -> list[str]:
        """Processes (ids) of containers that run and that the engine does not know: one that is
        killed in the middle of a start may lose sight of what it started."""
        known = {each["Id"] for each in self.get("/containers/json?all=1") or []}
        processes = {}
        for line in self.sh(PROCESSES).splitlines():
            number, parent, command = (*line.split(" ", 2), "")[:3]
            processes[number] = (parent, command)

        def is_known(number: str) -> bool:
            parent, _ = processes.get(number, ("0", ""))
            _, above = processes.get(parent, ("0", ""))
            if above.startswith(APPLICATION):
                return is_known(parent)
            return SHIM in above and any(each in above for each in known)

        return [
            number
            for number, (_, command) in processes.items()
            if command.startswith(APPLICATION) and not is_known(number)
        ]

    def close(self) -> None:
        """Take it away with all that it holds."""
        self.client.close()
        self.container.remove(force=True, v=True)

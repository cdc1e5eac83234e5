"""Ansible in an image's build: a playbook is applied to a container in which no systemd runs."""

import contextlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import APIError

from gantry.deployment.progress import Progress

# What a playbook is applied with, beside itself.
CONTEXT = ("ansible.cfg", "roles")
# Tasks come by the hundred; people are told with which role they begin.
TASK = re.compile(r"TASK \[(?:(\w+) : )?")
TAIL_LINES = 30
LIFETIME_SECONDS = 1800
SETTINGS = {
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_PIPELINING": "1",
    # A tmpfs in the container: nothing of it gets into the image.
    "ANSIBLE_REMOTE_TEMP": "/tmp/ansible",  # noqa: S108 - the container's own
    "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
}


class PlaybookError(Exception):
    """A playbook cannot be applied; the message has Ansible's last lines."""


@dataclass(frozen=True, slots=True)
class Playbook:
    """A playbook of a repository: its path from the repository's root."""

    root: Path
    path: str


def make_image(
    playbook: Playbook, built: str, tag: str, client: docker.DockerClient, progress: Progress
) -> None:
    """Apply a playbook in a container of the image `built`, and keep what it leaves as `tag`.

    Without a network: packages are the Dockerfile's, whose layers stay when a role is changed.

    Raises:
        PlaybookError: as `apply_playbook`. No container is left.
    """
    container = client.containers.create(
        built,
        entrypoint=["sleep", str(LIFETIME_SECONDS)],
        network_mode="none",
        tmpfs={"/run": "", "/tmp": ""},  # noqa: S108 - the container's own
        # It goes even where this process is killed.
        auto_remove=True,
    )
    try:
        container.start()
        apply_playbook(playbook, str(container.name), progress)
        progress("keeping what it made")
        # Entrypoint, health check and labels are the Dockerfile's, not those of this container.
        settings = client.images.get(built).attrs["Config"]
        repository, _, label = tag.partition(":")
        container.commit(repository, label, conf=settings)
    finally:
        # The engine may be about to remove it by itself.
        with contextlib.suppress(APIError):
            container.remove(force=True)


def apply_playbook(playbook: Playbook, container: str, progress: Progress) -> None:
    """Apply a playbook to a running container of the local engine.

    Raises:
        PlaybookError: Ansible is not there, or a task failed.
    """
    program = Path(sys.executable).with_name("ansible-playbook")
    if not program.exists():
        raise PlaybookError(f"there is no {program}: run `make setup`")
    command = [str(program), "--inventory", f"{container},"]
    command += ["--connection", "community.docker.docker", playbook.path]
    settings = SETTINGS | {"ANSIBLE_CONFIG": str(playbook.root / "ansible.cfg")}
    output: list[str] = []
    with subprocess.Popen(
        command,
        cwd=playbook.root,
        env=os.environ | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout  # noqa: S101 - it is a pipe
        role = ""
        for line in process.stdout:
            output.append(line.rstrip())
            found = TASK.match(line)
            if found and found[1] and found[1] != role:
                role = found[1]
                progress(f"role {role}")
    if process.returncode:
        tail = "\n".join([line for line in output if line][-TAIL_LINES:])
        raise PlaybookError(f"{playbook.path} failed\n{tail}")

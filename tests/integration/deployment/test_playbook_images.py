"""An image that a playbook makes: what of it is the Dockerfile's, and what a failure leaves."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from gantry.deployment.images import ImageError, build_image
from gantry.deployment.paths import repository_root

pytestmark = pytest.mark.timeout(600)

DOCKERFILE = """
ARG BASE
FROM ${BASE}
ENV container=docker
HEALTHCHECK CMD true
ENTRYPOINT ["cat", "/etc/said"]
"""
PLAYBOOK = """
- hosts: all
  gather_facts: false
  environment: {SYSTEMD_OFFLINE: "1"}
  roles: [said]
"""
TASKS = """
- name: Say it
  ansible.builtin.shell: echo "$SYSTEMD_OFFLINE" > /etc/said && echo gone > /run/said
- name: Try what cannot be
  ansible.builtin.command: "{{ program }}"
  vars: {program: "PROGRAM"}
"""


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=600)
    yield client
    for image in client.images.list(filters={"label": "gantry.image=said"}):
        client.images.remove(image.id, force=True)
    client.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one role, and the base that ours has."""
    folder = tmp_path / "images" / "said"
    folder.mkdir(parents=True)
    shutil.copytree(repository_root() / "images" / "raspios", tmp_path / "images" / "raspios")
    shutil.copy(repository_root() / "ansible.cfg", tmp_path)
    (folder / "Dockerfile").write_text(DOCKERFILE)
    recipe = 'from = "raspios"\narch = "amd64"\nplaybook = "images/said/playbook.yml"\n'
    (folder / "recipe.toml").write_text(recipe)
    (folder / "playbook.yml").write_text(PLAYBOOK)
    (tmp_path / "roles" / "said" / "tasks").mkdir(parents=True)
    return tmp_path


def tasks(root: Path, program: str) -> None:
    """The role's tasks; the last one runs a program."""
    path = root / "roles" / "said" / "tasks" / "main.yml"
    path.write_text(TASKS.replace("PROGRAM", program))


def left(client: docker.DockerClient) -> list[str]:
    """Containers of a build that is over."""
    found = client.containers.list(all=True, filters={"label": "gantry.image=said"})
    return [str(each.name) for each in found]


def test_the_playbook_adds_to_what_the_dockerfile_says(
    root: Path, client: docker.DockerClient
) -> None:
    tasks(root, "true")
    said: list[str] = []
    built = build_image("said", said.append, root=root, client=client)
    assert [line for line in said if "role said" in line]
    assert left(client) == []
    config = client.images.get(built.tag).attrs["Config"]
    assert config["Entrypoint"] == ["cat", "/etc/said"]
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    inherited = {"gantry.arch": "amd64", "gantry.base": "raspios"}
    assert config["Labels"] == inherited | {"gantry.image": "said", "gantry.recipe": built.hash}
    assert "container=docker" in config["Env"]
    assert not [each for each in config["Env"] if "OFFLINE" in each]
    assert client.containers.run(built.tag, remove=True) == b"1\n"
    # Neither Ansible's own files nor what was on a tmpfs.
    looked = client.containers.run(
        built.tag, ["-c", "ls -A /run /root /tmp"], entrypoint="sh", remove=True
    )
    assert b"said" not in looked
    assert b".ansible" not in looked
    # It is there: nothing is done a second time.
    again: list[str] = []
    assert build_image("said", again.append, root=root, client=client) == built
    assert again == []


def test_a_task_that_fails_is_named_and_nothing_is_left(
    root: Path, client: docker.DockerClient
) -> None:
    tasks(root, "ls /nowhere")
    with pytest.raises(
        ImageError, match=r"image said: images/said/playbook\.yml failed"
    ) as failure:
        build_image("said", lambda _: None, root=root, client=client)
    assert "Try what cannot be" in str(failure.value)
    assert "No such file or directory" in str(failure.value)
    assert left(client) == []
    assert not [each for each in client.images.list("gantry/said") if each.tags]

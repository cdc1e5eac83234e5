"""Images that newer recipes have replaced, in a real engine."""

import io
import secrets
from collections.abc import Iterator

import docker
import pytest

from gantry.deployment.images import build_image
from gantry.deployment.superseded import LABEL, remove_superseded


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=600)
    yield client
    client.close()


def test_the_newest_and_what_is_used_stay(client: docker.DockerClient) -> None:
    base = build_image("registry", lambda *_: None, client=client).tag
    name = f"superseded-{secrets.token_hex(4)}"
    tags = [f"gantry/{name}:{number}" for number in range(5)]
    for tag in tags:
        recipe = f"FROM {base}\nENV STEP={tag}\nCMD {tag}\n"
        client.images.build(
            fileobj=io.BytesIO(recipe.encode()), tag=tag, labels={LABEL: name}, rm=True
        )
    used = client.containers.create(tags[0])
    try:
        removed = remove_superseded(client, [name], kept=5)
        assert removed == []
        removed = remove_superseded(client, [name, "of-which-there-is-none"], kept=2)
        left = {
            tag
            for each in client.images.list(filters={"label": f"{LABEL}={name}"})
            for tag in each.tags
        }
        assert tags[0] in left
        assert len(left) == 3
        assert set(removed) | left == set(tags)
        assert remove_superseded(client, [name], kept=2) == []
        assert client.images.get(base)
    finally:
        used.remove()
        for image in client.images.list(filters={"label": f"{LABEL}={name}"}):
            client.images.remove(str(image.id), force=True)

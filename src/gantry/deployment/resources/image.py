"""A container image from `images/`, in the local engine, by the hash of its recipe."""

from contextlib import closing
from typing import Any

import docker
import pulumi
from pulumi.dynamic import CreateResult, DiffResult, Resource, ResourceProvider, UpdateResult

from gantry.deployment.images import build_image, plan_image
from gantry.deployment.paths import repository_root
from gantry.deployment.progress import line_printer


class ImageProvider(ResourceProvider):
    """Builds an image when its recipe's hash is new to the engine.

    Nothing is deleted: images are shared by all stacks of a host, and are a cache.
    """

    serialize_as_secret_always = False

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Make the image exist.

        Raises:
            ImageError: a wrong recipe or a failed build, with its last lines.
        """
        outs = self._built(props)
        return CreateResult(str(outs["tag"]), outs)

    def diff(self, _id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Whether the recipe changed, or the engine lost the image."""
        if olds.get("hash") != news.get("hash"):
            return DiffResult(changes=True)
        with closing(docker.from_env()) as client:
            return DiffResult(changes=not client.images.list(name=str(olds["tag"])))

    def update(self, _id: str, _olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Make the new image exist; the old one stays for who uses it.

        Raises:
            ImageError: a wrong recipe or a failed build, with its last lines.
        """
        return UpdateResult(self._built(news))

    @staticmethod
    def _built(props: dict[str, Any]) -> dict[str, Any]:
        image = build_image(str(props["recipe"]), line_printer())
        return {**props, "hash": image.hash, "tag": image.tag, "image_id": image.id}


class Image(Resource, module="gantry", name="Image"):
    """An image of `images/<recipe>`; `tag` holds the recipe's hash, so it never moves."""

    tag: pulumi.Output[str]
    image_id: pulumi.Output[str]

    def __init__(self, name: str, recipe: str, opts: pulumi.ResourceOptions | None = None) -> None:
        plan = plan_image(recipe, repository_root())
        # The tag is known from the files, so that a preview names it before it is built.
        props = {"recipe": recipe, "hash": plan.hash, "tag": plan.tag, "image_id": None}
        super().__init__(ImageProvider(), name, props, opts)

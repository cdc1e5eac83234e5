"""What of an image a delta must hold, and what images no delta is made of."""

from dataclasses import replace
from typing import Any

import pytest

from gantry.deltas.server.errors import WholeError
from gantry.deltas.server.images import Image, Layer, only_manifest, plan, read_image

GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(letter: str) -> str:
    return "sha256:" + letter * 64


def layer(letter: str, size: int = 10) -> Layer:
    return Layer(digest(letter), size, digest(letter), "gzip", "v2/x")


def image(letters: str) -> Image:
    return Image("v2/x", digest("e"), digest("f"), "linux/arm64", tuple(map(layer, letters)))


def targets(sources: list[str], target: str) -> str:
    """The letters of the layers that the delta holds."""
    made = plan([image(each) for each in sources], image(target))
    assert made.whole == 10 * len(set(made.targets))
    return "".join(each.diff_id[-1] for each in made.targets)


@pytest.mark.parametrize(
    ("sources", "target", "found"),
    [
        (["ab"], "ac", "c"),
        (["ab"], "abc", "c"),
        # An engine keeps nothing above a layer that is new, though its files are there.
        (["ab"], "cb", "cb"),
        (["ab", "cd"], "cde", "e"),
        (["ab"], "accd", "cd"),
        (["abc"], "abd", "d"),
    ],
)
def test_what_is_above_the_longest_shared_beginning(
    sources: list[str], target: str, found: str
) -> None:
    assert targets(sources, target) == found


def test_all_layers_of_all_sources_are_there_once() -> None:
    made = plan([image("ab"), image("acb")], image("ad"))
    assert sorted(each.diff_id[-1] for each in made.sources) == ["a", "b", "c"]


def test_what_is_there_needs_no_delta() -> None:
    with pytest.raises(WholeError, match="a pull fetches none"):
        plan([image("abc")], image("ab"))


def test_another_platform() -> None:
    other = replace(image("ab"), platform="linux/arm/v7")
    with pytest.raises(WholeError, match="for linux/arm/v7, not for linux/arm64"):
        plan([other], image("ac"))


def documents(**layer_fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A manifest of one layer and its configuration."""
    one = {"mediaType": GZIP, "size": 5, "digest": digest("a"), **layer_fields}
    manifest = {"config": {"digest": digest("c")}, "layers": [one]}
    config = {"os": "linux", "architecture": "arm", "rootfs": {"diff_ids": [digest("b")]}}
    return manifest, config


@pytest.mark.parametrize(
    ("media_type", "compression"),
    [
        (GZIP, "gzip"),
        ("application/vnd.docker.image.rootfs.diff.tar", ""),
        ("application/vnd.oci.image.layer.v1.tar+gzip", "gzip"),
        ("application/vnd.oci.image.layer.v1.tar+zstd", "zstd"),
        ("application/vnd.oci.image.layer.v1.tar", ""),
    ],
)
def test_an_image_is_read(media_type: str, compression: str) -> None:
    manifest, config = documents(mediaType=media_type)
    found = read_image("v2/x", digest("d"), manifest, config | {"variant": "v7"})
    assert found.platform == "linux/arm/v7"
    assert found.layers == (Layer(digest("a"), 5, digest("b"), compression, "v2/x"),)
    assert (found.config, found.size) == (digest("c"), 5)


@pytest.mark.parametrize(
    "change",
    [{"mediaType": "application/x-lzma"}, {"size": -1}, {"digest": "sha512:1"}, {"size": "many"},
     {"mediaType": None}],
)  # fmt: skip
def test_layers_that_are_none(change: dict[str, Any]) -> None:
    manifest, config = documents(**change)
    with pytest.raises(WholeError, match="is no image with layers"):
        read_image("v2/x", digest("d"), manifest, config)


@pytest.mark.parametrize("config", [{}, {"rootfs": 1}, {"rootfs": {"diff_ids": []}}])
def test_configurations_that_do_not_fit(config: dict[str, Any]) -> None:
    with pytest.raises(WholeError, match="is no image with layers"):
        read_image("v2/x", digest("d"), documents()[0], config)


def test_a_list_of_one_platform_is_that_one() -> None:
    one = {"digest": digest("a"), "platform": {"architecture": "arm64", "os": "linux"}}
    attestation = {"digest": digest("b"), "platform": {"architecture": "unknown", "os": "unknown"}}
    assert only_manifest("x", {"manifests": [one, attestation]}) == digest("a")
    for wrong in ([one, one], [attestation], [], 5):
        with pytest.raises(WholeError, match="platforms, and deltas are of one"):
            only_manifest("x", {"manifests": wrong})

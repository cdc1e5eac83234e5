"""The reader of bundles: whatever a file holds is refused in a sentence, or read as it was made."""

import gzip
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gantry.contracts.bundle import (
    HEADER_LENGTH,
    BundledImage,
    BundleError,
    Header,
    Index,
    Part,
    PartKind,
    canonical_reference,
    local_tag,
    read_header,
    read_index,
)
from gantry.supervisor.bundle import image_facts, open_bundle, target_app
from gantry.supervisor.bundle_checks import (
    Fit,
    check_architecture,
    check_fit,
    check_room,
    is_here_already,
    needed_room,
)
from gantry.supervisor.room import RESERVE

UUID = "f" * 32
REGISTRY = "registry.bots.example.org:8443"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def sample(
    layers: tuple[bytes, ...] = (b"one", b"two"),
    in_app: Mapping[str, Any] = MappingProxyType({}),
    in_release: Mapping[str, Any] = MappingProxyType({}),
    in_service: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Index, bytes]:
    """A bundle of one image, and its index; with these fields in its target."""
    packed = [gzip.compress(each, mtime=0) for each in layers]
    config = json.dumps(
        {
            "architecture": "arm64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [digest_of(each) for each in layers]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "config": {"digest": digest_of(config)},
            "layers": [{"digest": digest_of(each)} for each in packed],
        }
    ).encode()
    reference = f"{REGISTRY}/v2/{'a' * 32}@{digest_of(manifest)}"
    service = {"id": 1, "image_id": 2, "image": reference, "environment": {}, "labels": {}}
    services = {"main": {**service, **in_service}}
    release = {"id": 10, "services": services, "volumes": {}, "networks": {}, **in_release}
    app = {"id": 7, "name": "bots", "releases": {"c0ffee": release}, **in_app}
    target = json.dumps({UUID: app}).encode()
    contents = [
        (PartKind.TARGET, target),
        (PartKind.MANIFEST, manifest),
        (PartKind.CONFIG, config),
        *((PartKind.LAYER, each) for each in packed),
    ]
    index = Index(
        created_at="2026-01-01T00:00:00+00:00",
        made_by="test",
        fleet_uuid=UUID,
        fleet_id=7,
        fleet_slug="admin/bots",
        release_id=10,
        commit="c0ffee",
        device=None,
        parts=tuple(
            Part(kind, digest_of(each), len(each), "application/x", 0) for kind, each in contents
        ),
        images=(
            BundledImage(
                reference,
                digest_of(manifest),
                digest_of(config),
                tuple(digest_of(each) for each in packed),
            ),
        ),
    )
    return index, b"".join(each for _, each in contents)


def packed(index: Index, parts: bytes, signature: bytes = b"") -> bytes:
    encoded = index.encode()
    header = Header(
        len(encoded), hashlib.sha256(encoded).digest(), len(encoded) + len(parts), len(signature)
    )
    return header.pack() + signature + encoded + parts


def read_whole(path: Path) -> dict[str, Any]:
    """All that the supervisor reads of a bundle before it uses anything."""
    bundle = open_bundle(path)
    bundle.verify(lambda _read: True)
    for image in bundle.index.images:
        image_facts(bundle, image)
    return target_app(bundle)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    index, parts = sample()
    path = tmp_path / "x.gantry-bundle"
    path.write_bytes(packed(index, parts))
    bundle = open_bundle(path)
    assert bundle.index == index
    assert read_whole(path)["name"] == "bots"
    facts = image_facts(bundle, index.images[0])
    assert (facts.architecture, len(facts.diff_ids)) == ("arm64", 2)
    layer = index.parts[-1]
    assert gzip.decompress(b"".join(bundle.pieces(layer))) == b"two"


def test_a_signature_has_its_place_and_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.gantry-bundle"
    path.write_bytes(packed(*sample(), signature=b"s" * 100))
    assert read_whole(path)["id"] == 7


def test_the_header_is_where_the_documentation_says() -> None:
    header = Header(0x01020304, bytes(range(32)), 0x0A0B0C0D, 0x11).pack()
    assert header[:8] == b"\x89GANTRY\n"
    assert header[8:16] == b"\x00\x00\x00\x01\x01\x02\x03\x04"
    assert header[16:48] == bytes(range(32))
    assert header[48:] == b"\x00\x00\x00\x00\x0a\x0b\x0c\x0d\x00\x00\x00\x11\x00\x00\x00\x00"
    assert len(header) == HEADER_LENGTH == 64


@settings(max_examples=300, deadline=None)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_changed_bit_is_found_out(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    content = bytearray(packed(*sample()))
    content[place % len(content)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "bit.gantry-bundle"
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        read_whole(path)
    assert len(str(caught.value)) < 600


@settings(max_examples=200, deadline=None)
@given(length=st.integers(0, 10**6))
def test_any_truncation_is_found_out_before_a_part_is_read(
    tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    content = packed(*sample())
    path = tmp_path_factory.getbasetemp() / "cut.gantry-bundle"
    path.write_bytes(content[: length % len(content)])
    with pytest.raises(BundleError):
        open_bundle(path)


@settings(max_examples=500, deadline=None)
@given(content=st.binary(max_size=300), begins=st.booleans())
def test_any_bytes_are_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, begins: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.gantry-bundle"
    path.write_bytes(b"\x89GANTRY\n\x00\x00\x00\x01" * begins + content)
    with pytest.raises(BundleError):
        open_bundle(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(data=st.data())
def test_any_index_is_refused_in_a_sentence(data: st.DataObject) -> None:
    """An index whose digest is right: what whoever makes bundles could write."""
    document: Any = json.loads(sample()[0].encode())
    holder, key = document, data.draw(st.sampled_from(sorted(document)))
    while isinstance(holder[key], list) and holder[key] and data.draw(st.booleans()):
        holder = data.draw(st.sampled_from(holder[key]))
        if not isinstance(holder, dict):
            holder, key = document, "parts"
            break
        key = data.draw(st.sampled_from(sorted(holder)))
    if data.draw(st.booleans()):
        del holder[key]
    else:
        holder[key] = data.draw(json_values)
    content = json.dumps(document).encode()
    header = Header(len(content), hashlib.sha256(content).digest(), len(content) + 10**6)
    try:
        index = read_index(content, header)
    except BundleError:
        return
    assert header.index_length + index.payload == header.payload


@given(length=st.integers(0, 2**32 - 1))
def test_lengths_that_no_file_has_cost_no_memory(length: int) -> None:
    content = bytearray(Header(64, bytes(32), 2**63, 0).pack())
    content[12:16] = length.to_bytes(4, "big")
    try:
        header = read_header(bytes(content))
    except BundleError:
        return
    assert header.index_length <= 1024**2


def test_documents_that_contradict_the_index_are_refused(tmp_path: Path) -> None:
    index, parts = sample()
    path = tmp_path / "x.gantry-bundle"
    swapped = replace(index.images[0], layers=tuple(reversed(index.images[0].layers)))
    path.write_bytes(packed(replace(index, images=(swapped,)), parts))
    with pytest.raises(BundleError, match="is not what the index says"):
        read_whole(path)
    for other in (
        replace(index, commit="bad"),
        replace(index, fleet_uuid="e" * 32),
        replace(index, fleet_id=8),
        replace(index, release_id=11),
    ):
        path.write_bytes(packed(other, parts))
        with pytest.raises(BundleError, match="not that of its release"):
            read_whole(path)
    path.write_bytes(packed(replace(index, images=()), parts))
    with pytest.raises(BundleError, match="lacks the image"):
        read_whole(path)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"in_service": {"id": "x"}}, "service main: id is 'x'"),
        ({"in_service": {"image_id": None}}, "service main: image_id is None"),
        ({"in_service": {"environment": "A=b"}}, "environment is 'A=b'"),
        ({"in_service": {"composition": []}}, "composition is"),
        ({"in_release": {"volumes": "keep"}}, "volumes is 'keep'"),
        ({"in_app": {"name": None}}, "name is None"),
        ({"in_app": {"id": 7.0}}, "id is 7.0"),
        ({"in_app": {"is_host": True}}, "update of the host"),
    ],
)
def test_a_target_that_no_device_could_follow_is_refused(
    tmp_path: Path, fields: dict[str, Any], sentence: str
) -> None:
    path = tmp_path / "x.gantry-bundle"
    path.write_bytes(packed(*sample(**fields)))
    with pytest.raises(BundleError, match=sentence):
        read_whole(path)


FIT = Fit("d" * 32, 7, frozenset({REGISTRY}), {UUID: 7}, {7: (9, "older")})


@pytest.mark.parametrize(
    ("fit", "forced", "sentence"),
    [
        (FIT, False, None),
        (replace(FIT, apps={}, releases={}), False, None),
        (replace(FIT, apps={"7": 7}), False, None),  # preloaded in the oldest form
        (replace(FIT, releases={7: (10, "same number")}), False, "is not newer"),
        (replace(FIT, releases={7: (11, "newer")}), False, "is not newer"),
        (replace(FIT, releases={7: (11, "newer")}), True, None),
        (replace(FIT, given_up={"older": "ended"}), False, None),
        (replace(FIT, given_up={"c0ffee": "ended"}), False, "gave release c0ffee up: ended; bring"),
        (replace(FIT, given_up={"c0ffee": "ended"}), True, "gave release c0ffee up: ended; bring"),
        (replace(FIT, apps={"e" * 32: 7}), True, "is for the fleet"),
        (replace(FIT, apps={"e" * 32: 8}), True, "is for the fleet"),
        (replace(FIT, apps={}, fleet_id=8), True, "is for the fleet"),
        (replace(FIT, apps={}, fleet_id=None), True, "is for the fleet"),
        (replace(FIT, registries=frozenset({"registry.other.org"})), True, "its registry is"),
    ],
)
def test_for_whom_a_bundle_is(fit: Fit, forced: bool, sentence: str | None) -> None:
    index, _ = sample()
    if sentence is None:
        check_fit(index, fit, forced)
        return
    with pytest.raises(BundleError, match=sentence):
        check_fit(index, fit, forced)


def test_a_bundle_for_one_device() -> None:
    index, _ = sample()
    check_fit(replace(index, device="d" * 32), FIT, forced=False)
    with pytest.raises(BundleError, match="for device eeeeeeeeeeee alone"):
        check_fit(replace(index, device="e" * 32), FIT, forced=True)
    assert is_here_already(index, replace(FIT, releases={7: (10, "c0ffee")}))
    assert not is_here_already(index, FIT)


@pytest.mark.parametrize(
    ("architecture", "variant", "machine", "runs"),
    [
        ("arm64", "", "aarch64", True),
        ("arm", "v7", "aarch64", True),
        ("arm", "v7", "armv7l", True),
        ("arm", "v7", "armv6l", False),
        ("arm", "v6", "armv6l", True),
        ("arm", "", "armv6l", True),
        ("arm64", "v8", "armv7l", False),
        ("amd64", "", "aarch64", False),
        ("arm64", "", "x86_64", False),
        ("", "", "aarch64", False),
    ],
)
def test_which_machine_runs_what(
    tmp_path: Path, architecture: str, variant: str, machine: str, runs: bool
) -> None:
    index, parts = sample()
    path = tmp_path / "x.gantry-bundle"
    path.write_bytes(packed(index, parts))
    facts = image_facts(open_bundle(path), index.images[0])
    facts = replace(facts, architecture=architecture, variant=variant)
    if runs:
        check_architecture([facts], machine)
        return
    with pytest.raises(BundleError, match="does not run"):
        check_architecture([facts], machine)


def test_room_is_needed_for_what_is_not_here_yet(tmp_path: Path) -> None:
    index, parts = sample()
    index = replace(
        index,
        parts=tuple(
            replace(each, unpacked=1000 * place) if each.kind is PartKind.LAYER else each
            for place, each in enumerate(index.parts)
        ),
    )
    path = tmp_path / "x.gantry-bundle"
    path.write_bytes(packed(index, parts))
    facts = image_facts(open_bundle(path), index.images[0])
    one, two = index.parts[-2:]
    both = one.unpacked + two.unpacked + one.size + two.size
    assert needed_room(index, [facts], []) == both
    assert needed_room(index, [facts, facts], []) == both
    first_is_here = [[facts.diff_ids[0], "sha256:other"]]
    assert needed_room(index, [facts], first_is_here) == two.unpacked + two.size
    # What lies above another layer is another layer to the engine.
    assert needed_room(index, [facts], [[facts.diff_ids[1]]]) == both
    assert needed_room(index, [facts], [list(facts.diff_ids)]) == 0
    check_room(0, 0)
    check_room(1, RESERVE + 1)
    with pytest.raises(BundleError, match="too little room"):
        check_room(1, RESERVE)


@given(st.text(max_size=60))
def test_names_that_are_no_digests_tag_are_left_alone(name: str) -> None:
    assert local_tag(name) is None or "@sha256:" in name
    found = canonical_reference(name)
    assert found == name or local_tag(found) == name


def test_a_digest_in_a_tag_and_back() -> None:
    reference = f"{REGISTRY}/v2/{'a' * 32}@sha256:{'0' * 64}"
    tag = local_tag(reference)
    assert tag == f"{REGISTRY}/v2/{'a' * 32}:sha256-{'0' * 64}"
    assert canonical_reference(tag) == reference

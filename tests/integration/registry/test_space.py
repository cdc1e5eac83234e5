"""Removing what nobody needs from the real registry's storage: a folder, and a bucket."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from gantry.bucket import ensure_bucket
from gantry.contracts.registry_space import KnownImage, Order, Reason, RunKind, SpaceReport
from gantry.contracts.storage import S3Storage
from gantry.registry import collection, layout
from gantry.registry.collection import Collection
from gantry.registry.running import open_bucket
from gantry.registry.storage import Folder, Storage

from .blobs import (
    MANIFEST,
    digest,
    has_blob,
    manifest_of,
    pull_image,
    push_blob,
    push_like_an_engine,
    put_manifest,
)
from .conftest import S3_HOST, Registry, Signer, Start

ONE, OTHER, BASE = f"v2/{'1' * 32}", f"v2/{'2' * 32}", "gantry/aarch64-raspios"
INDEX = "application/vnd.oci.image.index.v1+json"
OCI = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Cloud:
    """What the api says. `pushed`: what it says was pushed to meanwhile."""

    known: list[KnownImage] = field(default_factory=list)
    pushed: list[str] = field(default_factory=list)
    held: int = 0
    holding: bool = False

    def images(self, _: int) -> list[KnownImage]:
        return self.known

    def say(self, _: int, text: str) -> None:
        assert text

    def hold_pushes(self, _: int, since: str) -> list[str]:
        assert since
        assert not self.holding
        self.held += 1
        self.holding = True
        return self.pushed

    def release_pushes(self, _: int) -> None:
        self.holding = False


@dataclass
class World:
    """A registry, its files, and what the api knows."""

    registry: Registry
    storage: Storage
    signer: Signer
    cloud: Cloud = field(default_factory=Cloud)

    def token(self, *repositories: str) -> str:
        asked = repositories or (ONE, OTHER, BASE)
        return self.signer.token(*((each, "pull,push,delete") for each in asked))

    def push(self, repository: str, *layers: bytes, tag: str = "latest", of: str = "") -> str:
        return push_like_an_engine(
            self.registry.client, repository, self.token(), layers, tag=tag, mount_from=of or None
        )

    def knows(self, repository: str, named: str, *reasons: Reason) -> None:
        self.cloud.known.append(KnownImage(repository, named, "me/bots main abc", reasons))

    def pull(self, repository: str, named: str) -> int:
        return pull_image(self.registry.client, repository, self.token(), named)

    def is_there(self, repository: str, named: str) -> bool:
        answer = self.registry.client.get(
            f"/v2/{repository}/manifests/{named}",
            headers={
                "Authorization": f"Bearer {self.token()}",
                "Accept": f"{MANIFEST}, {INDEX}, {OCI}",
            },
        )
        assert answer.status_code in (200, 404)
        return answer.status_code == 200

    def delete(self, repository: str, named: str) -> bool:
        """The collector's way to the registry, with the test's tokens."""
        answer = self.registry.client.delete(
            f"/v2/{repository}/manifests/{named}",
            headers={"Authorization": f"Bearer {self.token(repository)}"},
        )
        assert answer.status_code in (202, 404), answer.text
        return answer.status_code == 202

    def run(
        self, kind: RunKind = RunKind.COLLECT, *, grace: int = 0, linger: int = 0, late: float = 0
    ) -> SpaceReport:
        """A run; `late`: so many seconds later."""
        order = Order(1, kind, grace, linger, "2026-01-01T00:00:00+00:00")
        return Collection(
            order, self.cloud, self, self.storage, clock=lambda: time.time() + 1 + late
        ).run()

    def blobs(self) -> set[str]:
        return set(layout.read_contents(self.storage).blobs)


@pytest.fixture(autouse=True)
def _no_pushes_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody pushes between two whiles without pushes here."""
    monkeypatch.setattr(collection, "LET_SECONDS", 0.0)


@contextmanager
def _folder(start: Start, signer: Signer, folder: Path) -> Iterator[World]:
    # By whoever runs this test, so that the files can be removed by them.
    options = {
        "user": f"{os.getuid()}:{os.getgid()}",
        "volumes": {str(folder): {"bind": "/var/lib/registry", "mode": "rw"}},
    }
    with start(**options) as registry:
        yield World(registry, Folder(folder), signer)


@contextmanager
def _bucket(start: Start, signer: Signer, storage: S3Storage) -> Iterator[World]:
    ensure_bucket(storage)
    inside = replace(storage, endpoint=str(storage.endpoint).replace("127.0.0.1", S3_HOST))
    with start(inside) as registry:
        yield World(registry, open_bucket(storage), signer)


@pytest.fixture(params=["folder", "bucket"])
def world(
    request: pytest.FixtureRequest, start: Start, signer: Signer, tmp_path: Path
) -> Iterator[World]:
    if request.param == "folder":
        with _folder(start, signer, tmp_path) as made:
            yield made
        return
    s3 = request.getfixturevalue("s3")
    name = f"space-{os.urandom(4).hex()}"
    storage = S3Storage(name, "us-east-1", "a-key", "a-secret", endpoint=s3, prefix="images")
    with _bucket(start, signer, storage) as made:
        yield made


@pytest.fixture
def folder(start: Start, signer: Signer, tmp_path: Path) -> Iterator[World]:
    with _folder(start, signer, tmp_path) as made:
        yield made


def test_what_nobody_needs_goes_and_all_else_stays(world: World) -> None:
    shared, old, new, base = (os.urandom(50_000) for _ in range(4))
    gone = world.push(ONE, shared, old, tag="old")
    kept = world.push(ONE, shared, new, tag="new")
    mounted = world.push(OTHER, shared, of=ONE)
    platform = world.push(BASE, base)
    world.knows(ONE, gone)
    world.knows(ONE, kept, Reason.TARGET)
    before = world.blobs()

    survey = world.run(RunKind.SURVEY)
    assert world.blobs() == before
    assert (survey.images, survey.removed, survey.freed) == (1, 0, 0)
    assert survey.size > 200_000
    assert 50_000 < survey.waits < 60_000
    (one,) = (each for each in survey.repositories if each.name == ONE)
    assert {each.digest: each.reasons for each in one.images} == {
        gone: (),
        kept: (Reason.TARGET.value,),
    }
    assert one.goes == survey.waits

    report = world.run()
    assert (report.removed, report.freed, report.freed_blobs) == (1, survey.waits, 3)
    assert report.size == survey.size - survey.waits
    assert {gone, digest(old)} <= before - world.blobs()
    assert not world.is_there(ONE, gone)
    assert not world.is_there(ONE, "old")
    assert world.pull(ONE, kept) == world.pull(ONE, "new") == 100_000
    assert world.pull(OTHER, mounted) == world.pull(BASE, platform) == 50_000
    assert not world.cloud.holding

    again = world.run()
    assert (again.removed, again.freed, again.frees, again.waits) == (0, 0, 0, 0)
    # What was removed can come again: nothing remembers that it was there.
    assert world.push(ONE, shared, old) == gone
    assert world.pull(ONE, gone) == 100_000


def test_what_a_removed_image_was_made_of_stays_for_pulls_that_have_begun(folder: World) -> None:
    layer = os.urandom(50_000)
    gone = folder.push(ONE, layer)
    folder.knows(ONE, gone)
    report = folder.run(linger=3600)
    assert (report.removed, report.freed) == (1, 0)
    assert report.waits > 50_000
    assert not folder.is_there(ONE, gone)
    # A pull that has its manifest goes on.
    assert has_blob(folder.registry.client, ONE, folder.token(), digest(layer))
    assert folder.run(RunKind.FREE, linger=3600, late=3000).freed == 0
    assert folder.run(RunKind.FREE, linger=3600, late=3700).freed == report.waits
    assert not has_blob(folder.registry.client, ONE, folder.token(), digest(layer))
    assert folder.blobs() == set()


def test_a_young_blob_of_no_image_is_a_push_s(folder: World) -> None:
    layer = os.urandom(10_000)
    push_blob(folder.registry.client, ONE, folder.token(), layer)
    assert folder.run(grace=60).young == 10_000
    assert folder.blobs() == {digest(layer)}
    assert folder.run(grace=60, late=61).freed == 10_000
    assert not has_blob(folder.registry.client, ONE, folder.token(), digest(layer))


def test_images_of_several_platforms_and_what_is_said_of_them(world: World) -> None:
    token, http = world.token(), world.registry.client

    def platform(layer: bytes) -> bytes:
        config = json.dumps({"of": digest(layer)}).encode()
        for blob in (layer, config):
            push_blob(http, ONE, token, blob)
        content = manifest_of(config, [layer], OCI)
        put_manifest(http, ONE, token, content)
        return content

    def index(*manifests: bytes, tag: str) -> str:
        listed = [
            {"mediaType": OCI, "digest": digest(each), "size": len(each)} for each in manifests
        ]
        content = {"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}
        return put_manifest(http, ONE, token, json.dumps(content).encode(), tag)

    arm, both, attestation, intel = (platform(os.urandom(1000)) for _ in range(4))
    gone = index(arm, both, attestation, tag="gone")
    kept = index(both, intel, tag="kept")
    # A signature: no image holds it, it names the image.
    signature = json.loads(platform(os.urandom(1000))) | {
        "subject": {"mediaType": INDEX, "digest": gone, "size": 1}
    }
    signed = put_manifest(http, ONE, token, json.dumps(signature).encode())
    world.knows(ONE, gone)
    world.knows(ONE, kept, Reason.PINNED)

    first = world.run(linger=60)
    assert (first.removed, world.is_there(ONE, gone)) == (1, False)
    # A pull that has read the list asks for its own platform's manifest next.
    assert world.is_there(ONE, digest(arm))
    second = world.run(linger=60, late=61)
    assert second.removed == 3
    gone_now = (digest(arm), digest(attestation), signed)
    assert not any(world.is_there(ONE, each) for each in gone_now)
    assert all(world.is_there(ONE, each) for each in (kept, digest(both), digest(intel)))
    world.run(linger=60, late=130)
    held = layout.read_contents(world.storage)
    assert {digest(arm), digest(attestation), signed, gone}.isdisjoint(held.blobs)
    assert {kept, digest(both), digest(intel)} <= held.blobs.keys()
    assert held.removed == {}


def test_a_repository_that_was_pushed_to_meanwhile_is_left_alone(folder: World) -> None:
    gone = folder.push(ONE, b"x" * 1000)
    folder.knows(ONE, gone)
    folder.cloud.pushed = [ONE]
    assert (folder.run().skipped, folder.is_there(ONE, gone)) == (1, True)
    assert folder.pull(ONE, gone) == 1000
    folder.cloud.pushed = []
    assert (folder.run().skipped, folder.is_there(ONE, gone)) == (0, False)


class _KilledError(Exception):
    """The process was ended just before a write or a removal."""


def test_a_run_that_was_cut_off_anywhere_is_gone_on_with(folder: World) -> None:
    """Whatever write or removal is the last: nothing that is needed is touched, and the next run
    does the rest."""

    class Cut(Folder):
        left = 0

        def _count(self) -> None:
            if type(self).left == 0:
                raise _KilledError
            type(self).left -= 1

        def write(self, path: str, content: bytes) -> None:
            self._count()
            super().write(path, content)

        def remove(self, paths: object) -> None:
            for each in list(paths):  # type: ignore[call-overload]
                self._count()
                super().remove([each])

    kept = folder.push(ONE, b"k" * 1000)
    folder.knows(ONE, kept, Reason.RUNNING)
    whole = folder.storage
    needed = folder.blobs()
    for cut in range(9):
        gone = folder.push(ONE, b"k" * 1000, os.urandom(1000), tag=f"cut-{cut}")
        folder.knows(ONE, gone)
        Cut.left = cut
        assert isinstance(whole, Folder)
        folder.storage = Cut(whole._root)
        with contextlib.suppress(_KilledError):
            folder.run()
        folder.storage = whole
        assert not folder.cloud.holding
        assert folder.pull(ONE, kept) == 1000
        folder.run()
        assert folder.blobs() == needed
        contents = layout.read_contents(whole)
        assert contents.removed == {}
        assert contents.repositories[ONE].layers <= needed


def test_why_pushes_are_held_back(folder: World) -> None:
    """A push finds a layer that no image has, and relies on it: a collection at this very moment,
    without an api that holds pushes back and tells of them, would make it fail."""
    layer = os.urandom(1000)
    folder.knows(ONE, folder.push(ONE, layer))
    with pytest.raises(AssertionError, match="BLOB_UNKNOWN"):
        push_like_an_engine(
            folder.registry.client,
            ONE,
            folder.token(),
            [layer, b"new"],
            pause=lambda: folder.run(),
        )


def test_a_broken_manifest_is_told_and_can_go(folder: World) -> None:
    broken = folder.push(ONE, b"x" * 1000)
    folder.storage.remove([layout.blob_path(broken)])
    assert folder.run(RunKind.SURVEY).broken == 1
    folder.knows(ONE, broken)
    report = folder.run()
    assert (report.removed, folder.blobs()) == (1, set())

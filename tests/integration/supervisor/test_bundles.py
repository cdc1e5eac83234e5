"""Offline updates: a bundle from a real registry into a real engine, by the real supervisor."""

import asyncio
import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import httpx2
import pytest

from gantry.client.bundle_file import Release, write_bundle
from gantry.client.registry import Registry as RegistryReader
from gantry.supervisor.bundles import Bundles
from gantry.supervisor.config import DeviceConfig
from gantry.supervisor.engine import Engine, EngineInfo
from gantry.supervisor.journal import Journal
from gantry.supervisor.offline import OfflineReleases
from gantry.supervisor.settings import read_settings
from gantry.supervisor.store import Store
from tests.integration.supervisor.conftest import (
    Cloud,
    Device,
    Registry,
    image_names,
    wait_until,
)
from tests.integration.supervisor.http_api import Api
from tests.integration.supervisor.ssh_server import SshServer

FOREVER = "echo begun $NAME; while true; do sleep 1; done"
MIB = 1024 * 1024
Make = Callable[..., Path]


@pytest.fixture
def make(device: Device, registry: Registry, tmp_path: Path) -> Make:
    """Makes a bundle of a release of the device's fleet; the engine knows none of its images."""

    def made(commit: str, services: dict[str, dict[str, Any]], **how: Any) -> Path:
        apps = device.app(commit, services)
        [(uuid, app)] = apps.items()
        app["releases"][commit]["id"] = how.pop("number", 10**9)
        uuid = how.pop("uuid", uuid)
        path = tmp_path / f"{commit}.gantry-bundle"
        release = Release(uuid, {**app, **how.pop("app", {})}, how.pop("device", None))
        write_bundle(release, lambda at: RegistryReader(at, None), path, "amd64", lambda *_: None)
        return path

    return made


def bring(device: Device, bundle: Path, name: str = "") -> Path:
    """Put a bundle where the supervisor finds it, whole from the first moment."""
    folder = device.home / "mnt" / "bundles"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / (name or bundle.name)
    shutil.copyfile(bundle, folder / f"{target.name}.part")
    (folder / f"{target.name}.part").replace(target)
    return target


def status(device: Device) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(
            (device.home / "mnt" / "bundles" / "status.json").read_text()
        )
    except (OSError, ValueError):
        return {}
    return found


def outcome(device: Device, bundle: Path) -> dict[str, Any]:
    """How it ended with this bundle."""

    def ended() -> dict[str, Any] | None:
        found = status(device)
        over = found.get("stage") in ("applied", "refused") and not bundle.exists()
        return found if over and found["name"] == bundle.name else None

    found: dict[str, Any] = wait_until(f"{bundle.name} is over", ended)
    return found


def runs(device: Device, image: str) -> bool:
    """Whether this image's service runs, and no other."""
    alias = image.replace("@sha256:", ":sha256-")
    found = [each.attrs["Config"]["Image"] for each in device.containers(running=True)]
    return found in ([image], [alias])


def test_a_bundle_brings_a_release_and_the_api_goes_on_from_there(
    device: Device, cloud: Cloud, registry: Registry, make: Make
) -> None:
    first = registry.push(FOREVER)
    second = registry.push(FOREVER + " # two", ballast=3 * MIB)
    # The image of the last good release stays until the new one is known to be good.
    cloud.config = {"BALENA_SUPERVISOR_ROLLBACK_SETTLE": "0"}
    cloud.apps = device.app("aaa1", {"main": {"image": first, "environment": {"NAME": "mine"}}})
    device.start()
    old = wait_until("the first release", device.service)
    bundle = make("bbb2", {"main": {"image": second, "environment": {"NAME": "f", "MORE": "x"}}})
    cloud.stop()
    brought = bring(device, bundle)
    assert outcome(device, brought)["stage"] == "applied", status(device)
    wait_until("the second release alone", lambda: runs(device, second))
    new = wait_until("it", device.service)
    assert new.id != old.id
    environment = dict(each.split("=", 1) for each in new.attrs["Config"]["Env"])
    assert (environment["NAME"], environment["MORE"]) == ("mine", "x")
    assert environment["BALENA_APP_RELEASE"] == "bbb2"
    # Nothing of the loading is left, and the first release's image is gone.
    mine = (first.partition("@")[0], f"gantry-bundle/{device.instance}/")
    wait_until(
        "only the second's name",
        lambda: (
            [name for name in image_names(device.engine) if any(each in name for each in mine)]
            == [second.replace("@sha256:", ":sha256-")]
        ),
    )
    # The api still says what it said: the bundle's release holds, also after a restart.
    cloud.start()
    device.signal(signal.SIGTERM)
    polls = len(cloud.polls)
    device.start()
    wait_until("it polls", lambda: len(cloud.polls) > polls)
    wait_until(
        "it is reported",
        lambda: (
            cloud.reported().get("apps", {}).get(f"uuid{device.app_id}", {}).get("release_uuid")
            == "bbb2"
        ),
    )
    services = cloud.reported()["apps"][f"uuid{device.app_id}"]["releases"]["bbb2"]["services"]
    assert services["main"]["image"] == second
    assert device.service() == new
    # The api names it: nothing is downloaded, and nothing restarts but for its variables.
    said = len(cloud.messages(isSystem=True))
    same = {"image": second, "environment": {"NAME": "mine", "MORE": "x"}}
    cloud.apps = device.app("bbb2", {"main": same})
    wait_until("the api's word holds", lambda: any("now the api's" in m for m in cloud.messages()))
    time.sleep(2)
    assert device.service() == new
    assert not any("Downloading" in each for each in cloud.messages(isSystem=True)[said:])
    # And goes on as ever.
    cloud.apps = device.app("ccc3", {"main": {"image": registry.push(FOREVER + " # three")}})
    wait_until("the third release", lambda: runs(device, registry.pushed[-1]))
    wait_until(
        "the second's image is gone",
        lambda: (
            not any(
                second.partition("@")[0] in each and second[-64:] in each
                for each in image_names(device.engine)
            )
        ),
    )


def test_what_is_not_for_this_device_is_refused_and_nothing_changes(
    device: Device, cloud: Cloud, registry: Registry, make: Make
) -> None:
    image = registry.push(FOREVER)
    services = {"main": {"image": image}}
    cloud.apps = device.app("aaa1", services)
    cloud.apps[f"uuid{device.app_id}"]["releases"]["aaa1"]["id"] = 500
    device.start()
    running = wait_until("the release", device.service)

    def refused(bundle: Path, name: str = "") -> str:
        found = outcome(device, bring(device, bundle, name))
        assert found["stage"] == "refused"
        assert device.containers() == [running]
        return str(found["message"])

    other = make("bbb2", services, uuid="f" * 32, app={"id": 7, "slug": "admin/others"})
    assert "for the fleet admin/others (number 7" in refused(other)
    # Even by force: whoever forces wants an older release, not another's.
    assert "for the fleet" in refused(other, "other.force.gantry-bundle")
    assert "for device" in refused(make("bbb3", services, device="e" * 32))
    older = refused(make("bbb4", services, number=499))
    assert "bbb4 (number 499) is not newer than aaa1 (number 500)" in older
    assert "no bundle" in refused(_written(device, b"PK\x03\x04" + bytes(200)))
    future = bytearray(make("bbb5", services).read_bytes())
    future[11] = 2
    assert "has format 2" in refused(_written(device, bytes(future)))
    again = outcome(device, bring(device, make("aaa1", services, number=500)))
    assert (again["stage"], "already" in again["message"]) == ("applied", True)
    assert device.service() == running
    # An older one by force; it is told, and holds until the api changes its mind.
    back = make("bbb6", {"main": {"image": image, "environment": {"NAME": "old"}}}, number=499)
    assert outcome(device, bring(device, back, "back.force.gantry-bundle"))["stage"] == "applied"
    wait_until("the older one", lambda: "begun old" in cloud.messages(serviceName="main"))
    wait_until("told", lambda: any("bbb6 replaces" in each for each in cloud.messages()))


def _written(device: Device, content: bytes) -> Path:
    path = device.home / "changed.gantry-bundle"
    path.write_bytes(content)
    return path


def test_a_bundle_for_another_architecture_is_refused(
    device: Device, cloud: Cloud, registry: Registry, make: Make
) -> None:
    device.start()
    wait_until("registered", lambda: cloud.registrations)
    foreign = for_architecture(registry.push(FOREVER), "arm64")
    found = outcome(device, bring(device, make("bbb2", {"main": {"image": foreign}})))
    assert found["stage"] == "refused"
    assert "is for arm64, which this machine (x86_64) does not run" in found["message"]
    assert not device.containers()


def test_damage_and_truncation_anywhere_are_found_out(
    device: Device, cloud: Cloud, registry: Registry, make: Make
) -> None:
    image = registry.push(FOREVER)
    cloud.apps = device.app("aaa1", {"main": {"image": image}})
    device.start()
    running = wait_until("the release", device.service)
    next_one = registry.push(FOREVER + " # two", ballast=MIB)
    sound = make("bbb2", {"main": {"image": next_one}}).read_bytes()
    chance = random.Random(20)  # noqa: S311 (a seed that is told)
    places = [chance.randrange(len(sound)) for _ in range(4)] + [20, 62, 300]
    for place in places:
        content = bytearray(sound)
        content[place] ^= 1 << chance.randrange(8)
        found = outcome(
            device, bring(device, _written(device, bytes(content)), f"d{place}.gantry-bundle")
        )
        assert found["stage"] == "refused", f"a changed bit at {place}"
    for length in [0, 63, len(sound) - 1] + [chance.randrange(len(sound)) for _ in range(2)]:
        found = outcome(
            device, bring(device, _written(device, sound[:length]), f"t{length}.gantry-bundle")
        )
        assert found["stage"] == "refused", f"cut off after {length}"
    assert outcome(device, bring(device, _written(device, sound + b"x")))["stage"] == "refused"
    assert device.containers() == [running]
    assert not any(next_one[-64:] in each for each in image_names(device.engine))
    # Those set aside are not kept for ever, and the sound one is taken all the same.
    kept = [each.name for each in (device.home / "mnt" / "bundles").glob("*.refused")]
    assert kept == ["changed.gantry-bundle.refused"]
    assert outcome(device, bring(device, _written(device, sound)))["stage"] == "applied"
    wait_until("the second release", lambda: runs(device, next_one))


@pytest.mark.parametrize("seed", range(4))
def test_power_lost_amid_applying_leaves_the_old_release_or_the_new_one(
    device: Device, cloud: Cloud, registry: Registry, make: Make, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 (a seed that is told)
    first = registry.push(FOREVER)
    second = [registry.push(f"{FOREVER} # {n}", ballast=8 * MIB) for n in range(2)]
    services = {"main": {"image": second[0]}, "more": {"image": second[1]}}
    bundle = make("bbb2", services)
    cloud.apps = device.app("aaa1", {"main": {"image": first}})
    device.start()
    wait_until("the first release", device.service)
    cloud.stop()
    brought = bring(device, bundle)
    for _ in range(3):
        wait_until("it begins", lambda: status(device).get("stage") or device.has_ended())
        time.sleep(chance.uniform(0, 2.5))
        device.kill()
        wait_until("it ended", device.has_ended)
        # From there on it is an update like any other, in which the old one ends first.
        is_loaded = status(device).get("stage") == "applied" or not brought.exists()
        assert is_loaded or device.service(), f"seed {seed}: nothing runs"
        device.start()
    assert outcome(device, brought)["stage"] == "applied", f"seed {seed}: {status(device)}"
    aliases = {each.replace("@sha256:", ":sha256-") for each in second}

    def images() -> set[str]:
        return {each.attrs["Config"]["Image"] for each in device.containers()}

    wait_until("both run, and nothing else", lambda: images() == aliases)
    wait_until(
        "nothing is left of the loading",
        lambda: (
            not any(
                f"gantry-bundle/{device.instance}/" in each for each in image_names(device.engine)
            )
        ),
    )
    # What was remembered is remembered: also a supervisor without the file goes on with it.
    device.kill()
    wait_until("it ended", device.has_ended)
    device.start()
    time.sleep(3)
    assert images() == aliases


def test_a_bundle_comes_by_the_http_api(
    device: Device, cloud: Cloud, registry: Registry, make: Make
) -> None:
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    device.start()
    wait_until("the first release", device.service)
    image = registry.push(FOREVER + " # two", ballast=2 * MIB)
    content = make("bbb2", {"main": {"image": image}}).read_bytes()
    url = f"http://127.0.0.1:{device.port}/v2/bundle"
    assert httpx2.post(url, content=content).status_code == 401
    assert httpx2.get(url).status_code == 401
    headers = {"Authorization": f"Bearer {Api(device).key}"}
    assert httpx2.get(url, headers=headers).json() == {"status": "success", "bundle": None}
    for wrong in (b"", b"x" * 500, content[:-1], content + b"y"):
        answer = httpx2.post(url, content=wrong, headers=headers)
        assert answer.status_code == 400, wrong[:10]
    pieces = httpx2.post(url, content=iter([content]), headers=headers)  # of unknown length
    assert pieces.status_code == 411
    answer = httpx2.post(url, content=content, headers=headers)
    assert answer.status_code == 202
    name = answer.json()["name"]

    def applied() -> bool:
        found = httpx2.get(url, headers=headers).json()["bundle"]
        return bool(found and found["name"] == name and found["stage"] == "applied")

    wait_until("it is applied", applied)
    wait_until("the second release", lambda: runs(device, image))
    folder = device.home / "mnt" / "bundles"
    wait_until("all else is gone", lambda: [*folder.iterdir()] == [folder / "status.json"])


def test_the_command_brings_it_and_says_how_it_ended(
    device: Device, cloud: Cloud, registry: Registry, make: Make
) -> None:
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    image = registry.push(FOREVER + " # two", ballast=MIB)
    bundle, old = (
        make("bbb2", {"main": {"image": image}}),
        make("old1", {"main": {"image": image}}, number=1),
    )
    device.start()
    wait_until("the first release", device.service)
    key = device.home / "key"
    key.write_text(Api(device).key)

    def gantry(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "gantry.cli.main", "bundle", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    shown = json.loads(gantry("show", str(bundle)).stdout)
    assert [each["reference"] for each in shown["images"]] == [image]
    assert [each["kind"] for each in shown["parts"]][:3] == ["target", "manifest", "config"]
    assert all(each["unpacked"] > 0 for each in shown["parts"] if each["kind"] == "layer")
    to = [f"http://127.0.0.1:{device.port}", "--key-file", str(key)]
    ended = gantry("apply", str(bundle), *to)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "release bbb2 replaces what ran\n"
    wait_until("the second release", lambda: runs(device, image))
    ended = gantry("apply", str(old), *to)
    assert ended.returncode == 1
    assert "the device refused it: release old1 (number 1) is not newer" in ended.stderr
    key.write_text("wrong")
    assert gantry("apply", str(bundle), *to).returncode == 4


@pytest.fixture
def by_ssh(device: Device, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a command whose `ssh` comes to this device, under its usual paths; PORT
    is where it listens."""
    home, programs = tmp_path / "ssh", tmp_path / "programs"
    for each in (home, programs, device.home / "mnt"):
        each.mkdir(exist_ok=True)
    client = docker.from_env()
    server = SshServer(home, client, [f"{home}:{home}", f"{device.home / 'mnt'}:/mnt/data"])
    words = shlex.join([str(shutil.which("ssh")), *server.options])
    (programs / "ssh").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (programs / "ssh").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    yield os.environ | {"PATH": path, "PORT": str(server.port)}
    server.close()
    client.close()


def test_the_command_brings_it_by_ssh(
    device: Device, cloud: Cloud, registry: Registry, make: Make, by_ssh: dict[str, str]
) -> None:
    cloud.apps = device.app("aaa1", {"main": {"image": registry.push(FOREVER)}})
    image = registry.push(FOREVER + " # two", ballast=MIB)
    bundle, old = (
        make("bbb2", {"main": {"image": image}}),
        make("old1", {"main": {"image": image}}, number=1),
    )
    device.start()
    wait_until("the first release", device.service)

    def apply(path: Path, *options: str, port: str = by_ssh["PORT"]) -> Any:
        command = [sys.executable, "-m", "gantry.cli.main", "bundle", "apply", str(path)]
        command += ["127.0.0.1", "--port", port, *options]
        return subprocess.run(command, env=by_ssh, capture_output=True, text=True, timeout=120)

    ended = apply(bundle)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "release bbb2 replaces what ran\n"
    wait_until("the second release", lambda: runs(device, image))
    ended = apply(old)
    assert ended.returncode == 1
    assert "the device refused it: release old1 (number 1) is not newer" in ended.stderr
    ended = apply(old, "--force")
    assert ended.returncode == 0, ended.stderr
    names = sorted(each.name for each in (device.home / "mnt" / "bundles").iterdir())
    assert [name for name in names if "refused" not in name] == ["status.json"]
    nobody = apply(bundle, port="1")
    assert nobody.returncode == 5
    assert "127.0.0.1: " in nobody.stderr
    assert "Traceback" not in nobody.stderr


def test_too_little_room_is_said_before_anything_is_loaded(
    device: Device, cloud: Cloud, registry: Registry, make: Make
) -> None:
    device.start()
    wait_until("registered", lambda: cloud.registrations)
    image = registry.push(FOREVER, ballast=MIB)
    bundle = make("bbb2", {"main": {"image": image}})
    with small_disk(device.home / "mnt"):
        found = outcome(device, bring(device, bundle))
    assert found["stage"] == "refused"
    assert "too little room: the release needs" in found["message"]
    assert not any(image[-64:] in each for each in image_names(device.engine))


class WatchedEngine(Engine):
    """The engine, which has two moments of a loading noted."""

    note: Callable[[str], None]

    async def inspect_image(self, name: str) -> dict[str, Any]:
        self.note("what is here is looked at")
        return await super().inspect_image(name)

    async def tag_image(self, name: str, tag: str) -> None:
        self.note("an image gets its name")
        await super().tag_image(name, tag)


@dataclass
class Fleet:
    """Holds nothing, and has it noted when another release is to be followed."""

    config: DeviceConfig
    info: EngineInfo
    note: Callable[[str], None]

    async def follow_offline(self) -> None:
        self.note("it is followed")


def test_no_image_is_cleaned_away_while_a_bundle_is_loaded(
    device: Device, registry: Registry, make: Make
) -> None:
    """Some of a bundle's images may be here already, and nothing may want them yet."""
    brought = bring(device, make("bbb2", {"main": {"image": registry.push(FOREVER)}}))
    folders = {"DATA_DIRECTORY": "data", "DATA_MOUNT_POINT": "mnt"}
    variables = {name: str(device.home / folder) for name, folder in folders.items()}
    settings = read_settings({**variables, "GANTRY_INSTANCE": device.instance})
    noted: dict[str, Collection[str] | None] = {}

    async def scenario() -> None:
        store = Store(settings.database_path)
        await store.open()
        journal = Journal(lambda _text, _service: None)
        offline = OfflineReleases(store, journal)

        def note(moment: str) -> None:
            noted[moment] = offline.removable([registry.address])

        engine = WatchedEngine(settings.docker_socket)
        engine.note = note
        config = DeviceConfig({**device.config, "uuid": "d" * 32})
        fleet = Fleet(config, await engine.info(), note)
        bundles = Bundles(settings, engine, store, offline, journal, lambda: fleet)
        try:
            assert await bundles._handle(brought, fleet)
            note("afterwards")
        finally:
            await engine.close()
            await store.close()

    asyncio.run(scenario())
    assert status(device)["stage"] == "applied", status(device)
    assert noted == {
        "what is here is looked at": None,
        "an image gets its name": None,
        "it is followed": None,
        "afterwards": [registry.address],
    }


def test_a_release_that_the_device_gave_up_is_refused(
    device: Device, cloud: Cloud, registry: Registry, make: Make
) -> None:
    cloud.config = {
        "BALENA_SUPERVISOR_ROLLBACK_SETTLE": "5000",
        "BALENA_SUPERVISOR_ROLLBACK_CRASHES": "2",
    }
    first = registry.push(FOREVER)
    cloud.apps = device.app("aaa1", {"main": {"image": first}})
    device.start()
    wait_until("it runs", lambda: runs(device, first))
    wait_until("it is good", lambda: "aaa1" in json.dumps(device.fact("releases")))
    bundle = make("bbb2", {"main": {"image": registry.push("echo crashing; exit 3")}})
    assert outcome(device, bring(device, bundle))["stage"] == "applied"
    wait_until("it is rejected", lambda: "Release bbb2 is rejected" in device.log())
    wait_until("the first one is back", lambda: runs(device, first))
    for name in ("again.gantry-bundle", "again.force.gantry-bundle"):
        found = outcome(device, bring(device, bundle, name))
        assert found["stage"] == "refused", found
        assert "this device gave release bbb2 up: service 'main' ended 2" in found["message"]
    assert runs(device, first)


def for_architecture(reference: str, architecture: str) -> str:
    """The same image in the registry, but for the machine that it says it is for."""
    name, _, digest = reference.partition("@")
    address, _, repository = name.partition("/")
    base = f"http://{address}/v2/{repository}"
    types = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
    with httpx2.Client() as client:
        manifest = client.get(f"{base}/manifests/{digest}", headers=types).json()
        config = client.get(f"{base}/blobs/{manifest['config']['digest']}").json()
        content = json.dumps({**config, "architecture": architecture}).encode()
        place = client.post(f"{base}/blobs/uploads/").headers["Location"]
        changed = f"sha256:{hashlib.sha256(content).hexdigest()}"
        put = client.put(f"{place}&digest={changed}", content=content)
        assert put.status_code == 201, put.text
        manifest["config"] |= {"digest": changed, "size": len(content)}
        document = json.dumps(manifest).encode()
        made = f"sha256:{hashlib.sha256(document).hexdigest()}"
        media_type = {"Content-Type": manifest["mediaType"]}
        put = client.put(f"{base}/manifests/{made}", content=document, headers=media_type)
        assert put.status_code == 201, put.text
    return f"{name}@{made}"


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of 32 MiB there."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", place], check=True)

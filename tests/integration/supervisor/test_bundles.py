"""Offline updates: a bundle from a real registry into a real engine, by the real supervisor."""

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gantry.client.bundle_file import Release, write_bundle
from gantry.client.registry import Registry as RegistryReader
from tests.integration.supervisor.conftest import (
    Cloud,
    Device,
    Registry,
    image_names,
    wait_until,
)

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
    wait_until(
        "only the second's name",
        lambda: (
            [
                name
                for name in image_names(device.engine)
                if "gantry-bundle" in name or name.startswith(f"{registry.address}/v2/")
                if first.partition("@")[0] in name or "gantry-bundle" in name
            ]
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

"""Take the supervisor off a host; with `purge` also what it made there and who the device was."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gantry_supervisor import configure, files, settings, trial, update
from gantry_supervisor.configure import UNIT
from gantry_supervisor.engine import Engine, EngineError
from gantry_supervisor.files import FileError
from gantry_supervisor.settings import CONTAINER

DOOR = "gantry-host.socket"
LOCKS = Path("/tmp/balena-supervisor")  # noqa: S108 - the supervisor's, on the host


def main(purge: bool, volumes: bool) -> int:
    """Remove; the exit status. Prints what was removed, nothing where nothing was."""
    try:
        _disable()
        for line in _remove(Engine(), purge, volumes):
            print(line, flush=True)
    except (EngineError, FileError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _disable() -> None:
    """Stop the unit, now and for the next boots."""
    booted = Path("/run/systemd/system").is_dir()
    now = ["--now"] if booted else []
    subprocess.run(
        ["systemctl", "disable", "--quiet", *now, UNIT], check=False, capture_output=True
    )
    if booted:
        subprocess.run(["systemctl", "stop", DOOR], check=False, capture_output=True)


def _remove(engine: Engine, purge: bool, volumes: bool) -> list[str]:
    role, chosen, config = settings.role_settings(), settings.choice(), settings.config()
    done = ["the supervisor's container"] if engine.remove_container(CONTAINER) else []
    if purge:
        done += _applications(engine, role.instance, volumes)
    current = settings.current_image(chosen, role, config)
    for image in dict.fromkeys((current, *chosen.obsolete)):
        with contextlib.suppress(EngineError):  # something else runs it
            if image and engine.remove(f"/images/{image}"):
                done.append(f"image {image}")
    if purge:
        done += _images(engine, settings.registry_of(config))
        done += _data()
    for path in (trial.TRIAL, trial.OUTCOME, update.LOCK, update.RESULT):
        path.unlink(missing_ok=True)
    return [f"removed {each}" for each in done]


def _applications(engine: Engine, instance: str, volumes: bool) -> list[str]:
    """Remove what the supervisor made in the engine, by its label."""
    filters = quote(json.dumps({"label": [f"io.gantry.instance={instance}"]}))
    done = []
    for each in engine.ask("GET", f"/containers/json?all=1&filters={filters}"):
        name = str(each["Names"][0]).lstrip("/") if each["Names"] else each["Id"][:12]
        _stop(engine, each["Id"])
        if engine.remove_container(each["Id"], volumes):
            done.append(f"container {name}")
    for each in engine.ask("GET", f"/networks?filters={filters}"):
        if engine.remove(f"/networks/{each['Id']}"):
            done.append(f"network {each['Name']}")
    if volumes:
        for each in engine.ask("GET", f"/volumes?filters={filters}")["Volumes"] or []:
            if engine.remove(f"/volumes/{each['Name']}?force=1"):
                done.append(f"volume {each['Name']}")
    return done


def _stop(engine: Engine, container: str) -> None:
    """Applications end as they do at every update: with their own signal and time."""
    with contextlib.suppress(EngineError):
        engine.ask("POST", f"/containers/{container}/stop", seconds=600.0)


def _images(engine: Engine, registry: str) -> list[str]:
    """Remove the applications' images: those of the fleet's registry that nothing uses."""
    if not registry:
        return []
    done = []
    found: list[dict[str, Any]] = engine.ask("GET", "/images/json")
    names = {
        name
        for image in found
        for name in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ()))
        if name.startswith(f"{registry}/")
    }
    for name in sorted(names):
        with contextlib.suppress(EngineError):
            if engine.remove(f"/images/{quote(name, safe=':@/')}"):
                done.append(f"image {name}")
    return done


def _data() -> list[str]:
    """Remove the supervisor's data, its choice of image, and the device's identity."""
    done = []
    bundles = settings.DATA / "bundles"
    for folder in (settings.STORE, settings.STORE_BEFORE, settings.PRELOAD, bundles, LOCKS):
        if folder.is_dir():
            shutil.rmtree(folder)
            done.append(str(folder))
    for path in sorted(settings.DATA.glob("apps.json*")):
        if files.remove(path):
            done.append(str(path))
    if files.remove(settings.CHOICE):
        done.append(str(settings.CHOICE))
    current = configure.read(settings.CONFIG)
    left = configure.forgotten(current)
    if left != current:
        files.write_object(settings.CONFIG, left)
        gone = ", ".join(sorted(set(current) - set(left)))
        done.append(f"{gone} of {settings.CONFIG}")
    return done

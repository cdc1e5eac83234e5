"""`gantry device sync`: this checkout's supervisor on a real device, and back again.

The device's unit mounts a folder over the package of the supervisor's image, where supervisor.json
on its boot partition names one (`source`, see roles/supervisor). The image stays as it is, so the
way back is to name none.
"""

import io
import json
import shlex
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from gantry.local.device_roads import Places, Road
from gantry.local.errors import LocalError

Say = Callable[[str], None]
# What of the package the supervisor's image has.
_PARTS = ("__init__.py", "contracts", "supervisor")
_WITHIN = 180.0
_HEALTHY = """python3 - <<'EOF'
import json, urllib.request
try:
    port = json.load(open({config!r})).get("listenPort") or 48484
    urllib.request.urlopen(f"http://127.0.0.1:{{port}}/v1/healthy", timeout=5)
    print("healthy")
except (OSError, ValueError) as error:
    print(error)
EOF"""


def package(root: Path) -> bytes:
    """The supervisor's package as a tar, from `root`, a checkout's src/gantry."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for part in _PARTS:
            for path in sorted([root / part, *(root / part).rglob("*.py")]):
                if path.is_file():
                    archive.add(path, path.relative_to(root).as_posix(), filter=_roots)
    return buffer.getvalue()


def _roots(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode = 0o644
    return member


def sync(root: Path, road: Road, places: Places, say: Say) -> None:
    """Put the supervisor of `root` onto the device, and start it.

    Raises:
        LocalError: it cannot be put there, or is not healthy within three minutes.
    """
    content = package(root)
    folder = _folder(places)
    say(f"copying the supervisor ({len(content) // 1024} KiB)")
    new, old = shlex.quote(f"{folder}.new"), shlex.quote(folder)
    road.run(
        f"set -e; rm -rf {new}; mkdir -p {new}; tar -x -C {new}; rm -rf {old}; mv {new} {old}",
        content,
    )
    _choose(road, places, folder)
    _start(road, places, say)
    say("the device runs this supervisor; --back brings the shipped one back")


def back(road: Road, places: Places, say: Say) -> None:
    """Have the device run the shipped supervisor again.

    Raises:
        LocalError: it cannot be, or is not healthy within three minutes.
    """
    _choose(road, places, None)
    _start(road, places, say)
    road.run(f"rm -rf {shlex.quote(_folder(places))}")
    say("the device runs the shipped supervisor")


def _folder(places: Places) -> str:
    return f"{places.data}/supervisor-source"


def _choose(road: Road, places: Places, folder: str | None) -> None:
    """Name the folder in supervisor.json, or none; what else it holds stays."""
    path = shlex.quote(f"{places.boot}/supervisor.json")
    text = road.run(f"cat {path} 2>/dev/null || true").strip()
    try:
        document = json.loads(text or "{}")
        if not isinstance(document, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise LocalError(f"{path} on the device is broken: {error}; mend or remove it") from error
    document.pop("source", None)
    if folder is not None:
        document["source"] = folder
    # Whole or not at all, and on the card before the supervisor ends.
    road.run(
        f"set -e; cat > {path}.new; sync; mv -f {path}.new {path}; sync",
        json.dumps(document, indent=2).encode(),
    )


def _start(road: Road, places: Places, say: Say) -> None:
    say("starting the supervisor anew")
    road.restart()
    script = _HEALTHY.format(config=f"{places.boot}/config.json")
    end = time.monotonic() + _WITHIN
    said = ""
    while time.monotonic() < end:
        said = road.run(script).strip()
        if said == "healthy":
            return
        time.sleep(1.0)
    raise LocalError(
        f"the supervisor is not healthy after {_WITHIN:.0f} s ({said}): "
        "`journalctl -u gantry-supervisor` on the device says why; "
        "`gantry device sync --back ADDRESS` brings the shipped one back"
    )

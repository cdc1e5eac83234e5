"""Have the supervisor's image, and run it: the unit `gantry-supervisor`.

/mnt/boot/supervisor.json: `{"image": reference, "source": folder or null, "environment": {}}`.
The image is taken from /mnt/data/preload (an archive that `docker save` wrote), else pulled with
the key of config.json: the provisioning key until the device is registered, then its own.
"""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

BOOT = Path("/mnt/boot")
PRELOAD = Path("/mnt/data/preload")
# On a tmpfs: the key is on no disk but the boot partition.
CREDENTIALS = Path("/run/gantry/docker")
CONTAINER = "gantry_supervisor"
# Where the image keeps the package that --mount-source replaces.
PACKAGE = "/opt/gantry/src/gantry"
MOUNTS = (
    f"{BOOT}:{BOOT}",
    "/var/run/docker.sock:/var/run/docker.sock",
    "/mnt/data/supervisor:/data",
    "/var/log/journal:/var/log/journal:ro",
)


def has_image(image: str) -> bool:
    found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    return found.returncode == 0


def login_of(config: dict[str, str]) -> tuple[str, str]:
    """User name and key for the registry's token server."""
    if key := config.get("deviceApiKey"):
        return f"d_{config['uuid']}", key
    return "provisioning", config["apiKey"]


def pull(image: str, config: dict[str, str]) -> None:
    registry = image.split("/", 1)[0]
    user, key = login_of(config)
    auth = base64.b64encode(f"{user}:{key}".encode()).decode()
    CREDENTIALS.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = CREDENTIALS / "config.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"auths": {registry: {"auth": auth}}}))
    try:
        print(f"pulling {image}", flush=True)
        subprocess.run(["docker", "--config", str(CREDENTIALS), "pull", "--quiet", image], check=True)
    finally:
        path.unlink()


def run_command(settings: dict[str, object]) -> list[str]:
    """The `docker run` that is this unit's process."""
    command = ["docker", "run", "--rm", "--name", CONTAINER, "--network", "host"]
    # Its lines go to this unit's journal; a second copy would be the engine's.
    command += ["--log-driver", "none"]
    for mount in MOUNTS:
        command += ["--volume", mount]
    if settings.get("source"):
        command += ["--volume", f"{settings['source']}:{PACKAGE}:ro"]
    environment = settings.get("environment")
    for name, value in (environment if isinstance(environment, dict) else {}).items():
        command += ["--env", f"{name}={value}"]
    return [*command, str(settings["image"])]


def main() -> None:
    settings = json.loads((BOOT / "supervisor.json").read_text())
    image = settings["image"]
    for archive in sorted(PRELOAD.glob("*.tar")):
        if not has_image(image):
            print(f"loading {archive.name}", flush=True)
            subprocess.run(["docker", "load", "--quiet", "--input", str(archive)], check=True)
        archive.unlink()
    if not has_image(image):
        pull(image, json.loads((BOOT / "config.json").read_text()))
    subprocess.run(["docker", "rm", "--force", CONTAINER], capture_output=True, check=False)
    sys.stdout.flush()
    command = run_command(settings)
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        main()
    except (subprocess.CalledProcessError, KeyError, ValueError, OSError) as error:
        sys.exit(f"the supervisor cannot start yet: {error!r}")

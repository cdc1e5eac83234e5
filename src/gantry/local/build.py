"""The doorway to `docker build`: images of a tree's services, on a device's engine or here."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gantry.builder.plan import ServiceBuild
from gantry.local.errors import LocalError

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Where and how: `engine` is `tcp://…` or None for this machine's; `platform` is OCI's."""

    engine: str | None
    platform: str
    no_cache: bool = False


def command(
    build: ServiceBuild, root: Path, settings: BuildSettings, dockerfile: Path, id_file: Path
) -> list[str]:
    """The command line. Build arguments are no secrets: layers hold them."""
    words = ["docker", *(["--host", settings.engine] if settings.engine else []), "build"]
    words += [f"--platform={settings.platform}", f"--file={dockerfile}", f"--iidfile={id_file}"]
    words += [f"--build-arg={name}={value}" for name, value in build.args.items()]
    words += [f"--label={name}={value}" for name, value in build.labels.items()]
    if build.target:
        words.append(f"--target={build.target}")
    if settings.no_cache:
        words.append("--no-cache")
    return [*words, str(root / build.context)]


def run(build: ServiceBuild, root: Path, settings: BuildSettings, say: Say) -> str:
    """Build a service's image; its id.

    Raises:
        LocalError: the build failed; its last line says why.
    """
    with tempfile.TemporaryDirectory(prefix="gantry-build-") as folder:
        work = Path(folder)
        dockerfile, id_file = work / "Dockerfile", work / "id"
        # The text that was read: a template is filled, and one of ours is in no tree.
        dockerfile.write_text(build.content)
        words = command(build, root, settings, dockerfile, id_file)
        environment = {**os.environ, "DOCKER_BUILDKIT": "1", "BUILDKIT_PROGRESS": "plain"}
        if _lacks_buildkit():
            environment["DOCKER_BUILDKIT"] = "0"
        last = _follow(words, environment, say)
        if not id_file.exists():
            raise LocalError(f"service {build.service} cannot be built: {last}")
        return id_file.read_text().strip()


def _follow(words: Sequence[str], environment: dict[str, str], say: Say) -> str:
    """Run it to its end, and say each line; the last one. What broke it off ends it."""
    try:
        process = subprocess.Popen(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise LocalError("the docker command is not here: `make setup` installs it") from error
    last = "docker build said nothing"
    with process:
        try:
            for line in process.stdout or ():
                if line.strip() and not _is_advice(line):
                    last = line.strip()
                    say(line.rstrip())
        except BaseException:
            process.terminate()
            raise
    return last


def _is_advice(line: str) -> bool:
    """Whether docker says, on a few lines, that it would rather build with BuildKit."""
    return line.strip().startswith(
        (
            "DEPRECATED: The legacy builder",
            "BuildKit is currently disabled",
            "environment-variable.",
        )
    )


def _lacks_buildkit() -> bool:
    """Docker's command has had BuildKit in it until version 23, and in a plug-in since."""
    plugin = subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False)
    if plugin.returncode == 0:
        return False
    words = ["docker", "version", "--format", "{{.Client.Version}}"]
    version = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    major = version.partition(".")[0]
    return not (major.isdecimal() and int(major) < 23)

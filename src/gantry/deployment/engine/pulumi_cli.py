"""The same operations by the Pulumi CLI, with a backend and a passphrase that need no account."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from gantry.deployment import paths
from gantry.deployment.engine.builtin import state_file
from gantry.deployment.engine.project import load
from gantry.deployment.engine.values import EngineError, Properties


class PulumiCli:
    """One stack, deployed with the `pulumi` program on PATH. Its own output is what people see."""

    name = "pulumi"

    def __init__(
        self, stack: str, root: Path | None = None, config_home: Path | None = None
    ) -> None:
        self.stack = stack
        self.root = (root or paths.project_root()).resolve()
        self.home = config_home or paths.config_home()

    def preview(self, as_json: bool = False) -> None:
        self._operate("preview", "--json" if as_json else "--diff")

    def up(self, refresh: bool = False) -> None:
        self._operate("up", "--yes", *(["--refresh"] if refresh else []))

    def refresh(self) -> None:
        self._operate("refresh", "--yes")

    def destroy(self) -> None:
        self._operate("destroy", "--yes")

    def outputs(self, show_secrets: bool = False) -> Properties:
        """What the program exported at the last `up`; secrets masked unless asked for."""
        found: Properties = self._json("output", "--json", show_secrets=show_secrets)
        return found

    def export(self, show_secrets: bool = False) -> dict[str, Any]:
        """The deployment as the CLI exports it."""
        found: dict[str, Any] = self._json("export", show_secrets=show_secrets)
        return found

    def _json(self, *words: str, show_secrets: bool) -> Any:
        shown = ["--show-secrets"] if show_secrets else []
        return json.loads(self._run("stack", *words, "--stack", self.stack, *shown, capture=True))

    def _operate(self, *words: str) -> None:
        """
        Raises:
            EngineError: the built-in engine holds this stack, or the CLI ended with an error.
        """
        load(self.root, self.stack)
        mine = state_file(self.home, self.stack)
        if mine.exists():
            raise EngineError(
                f"stack {self.stack} is deployed with the built-in engine ({mine}): go on with "
                "`--engine builtin`, or move it:\n"
                f"  gantry export {self.stack} --engine builtin --file moved.json\n"
                f"  pulumi stack init {self.stack} --secrets-provider passphrase\n"
                f"  pulumi stack import --stack {self.stack} --file moved.json\n"
                f"  mv {mine} {mine}.moved"
            )
        held = json.loads(self._run("stack", "ls", "--json", capture=True))
        if self.stack not in {entry["name"].rsplit("/", 1)[-1] for entry in held}:
            provider = ["--secrets-provider", "passphrase", "--no-select"]
            self._run("stack", "init", self.stack, *provider)
        self._run(*words, "--stack", self.stack)

    def _run(self, *words: str, capture: bool = False) -> str:
        (self.home / "state").mkdir(mode=0o700, parents=True, exist_ok=True)
        environment = os.environ | {
            "PULUMI_BACKEND_URL": f"file://{self.home / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE_FILE": str(self.home / "pulumi-passphrase"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        sys.stdout.flush()
        done = subprocess.run(
            ["pulumi", *words, "--non-interactive"],
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE if capture else None,
            text=True,
            check=False,
        )
        if done.returncode:
            raise EngineError(
                f"`pulumi {' '.join(words[:2])}` ended with code {done.returncode}, see above"
            )
        return done.stdout or ""

"""Pulumi.yaml, the stack's file, and running the program that they belong to."""

import asyncio
import contextlib
import contextvars
import json
import logging
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime import settings, stack
from pulumi.runtime.config import set_all_config

from gantry.deployment.engine.monitor import EngineLog, Monitor
from gantry.deployment.engine.values import EngineError, UnknownStackError

STEPS_AT_ONCE = 16


@dataclass(frozen=True)
class Project:
    """A Pulumi project and one of its stacks."""

    name: str
    stack: str
    root: Path
    main: Path
    config: dict[str, str]
    """Full keys; values that are not text are JSON, as the CLI hands them on."""

    def where(self, error: BaseException) -> str:
        """`infra/fleet.py:12: ValueError: message`: the last line of the project's own code."""
        text = str(error) if isinstance(error, pulumi.RunError) else _named(error)
        frames = traceback.extract_tb(error.__traceback__)
        for frame in reversed(frames):
            path = Path(frame.filename)
            if path.is_relative_to(self.root) and not {"site-packages", "engine"} & {*path.parts}:
                return f"{path.relative_to(self.root)}:{frame.lineno}: {text}"
        return text


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def load(root: Path, stack_name: str) -> Project:
    """
    Raises:
        UnknownStackError: no such stack.
        EngineError: no such project, or a secure value in the stack's file.
    """
    project = _yaml(root / "Pulumi.yaml", "run in the repository")
    folder = root / project.get("stackConfigDir", ".")
    path = folder / f"Pulumi.{stack_name}.yaml"
    if not path.is_file():
        known = sorted(p.name.split(".")[1] for p in folder.glob("Pulumi.*.yaml"))
        raise UnknownStackError(
            f"there is no stack {stack_name} ({path.relative_to(root)}): "
            f"the stacks are {', '.join(known) or 'none'}"
        )
    config: dict[str, str] = {}
    for key, value in (_yaml(path, "").get("config") or {}).items():
        full = key if ":" in key else f"{project['name']}:{key}"
        if isinstance(value, dict) and "secure" in value:
            raise EngineError(
                f"{path.relative_to(root)}: {key} is a secure value, which only the Pulumi CLI "
                "reads: let the program generate the secret, or deploy with the Pulumi CLI"
            )
        config[full] = value if isinstance(value, str) else json.dumps(value)
    main = (root / project.get("main", ".")).resolve()
    if not main.is_dir():
        raise EngineError(f"the program of {root / 'Pulumi.yaml'} is no folder: {main}")
    return Project(project["name"], stack_name, root, main, config)


def _yaml(path: Path, hint: str) -> dict[str, Any]:
    try:
        data: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise EngineError(f"{path} cannot be read ({error.strerror}): {hint}") from error
    except yaml.YAMLError as error:
        raise EngineError(f"{path} is not YAML: {error}") from error
    return data


@contextlib.contextmanager
def importable(project: Project) -> Iterator[None]:
    """The program's modules can be imported, and it runs in its own folder, as with the CLI.

    Its modules are forgotten afterwards: the next run reads them anew.
    """
    before = Path.cwd()
    sys.path.insert(0, str(project.main))
    os.chdir(project.main)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path.remove(str(project.main))
        for name, module in list(sys.modules.items()):
            path = Path(getattr(module, "__file__", None) or "/")
            ours = path.is_relative_to(project.main) and "site-packages" not in path.parts
            if ours and name != "__main__" and not name.startswith(("gantry", "tests")):
                del sys.modules[name]


def run(project: Project, monitor: Monitor, log: EngineLog, preview: bool) -> None:
    """Run the program against a monitor until every resource is registered and answered.

    Raises:
        EngineError: the program or a step failed; says where.
        KeyboardInterrupt: after the steps that were running.
    """
    contextvars.copy_context().run(_run, project, monitor, log, preview)


def _run(project: Project, monitor: Monitor, log: EngineLog, preview: bool) -> None:
    settings.ROOT.set(None)
    set_all_config(project.config, [])
    settings.configure(
        settings.Settings(
            project=project.name,
            stack=project.stack,
            monitor=monitor,
            engine=log,
            dry_run=preview,
            organization="organization",
            root_directory=str(project.root),
        )
    )
    # A program that fails leaves outputs that nobody awaits; asyncio would tell of each.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    workers = ThreadPoolExecutor(STEPS_AT_ONCE)
    loop.set_default_executor(workers)
    try:
        loop.run_until_complete(stack.run_in_stack(lambda: _program(project.main)))
    except KeyboardInterrupt:
        monitor.stopping = monitor.interrupted = True
        raise
    except (Exception, SystemExit) as error:
        monitor.stopping = True
        workers.shutdown(wait=True, cancel_futures=True)
        if monitor.failures:
            raise EngineError("\n".join(dict.fromkeys(monitor.failures))) from error
        raise EngineError(f"the program failed: {project.where(error)}") from error
    finally:
        workers.shutdown(wait=True, cancel_futures=True)
        _settle(loop)
    if log.errors:
        raise EngineError("the program reported errors, see above")


def _program(main: Path) -> None:
    runpy.run_path(str(main), run_name="__main__")


def _settle(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    finish: Callable[..., Any] = asyncio.gather
    if tasks:
        loop.run_until_complete(finish(*tasks, return_exceptions=True))
    asyncio.set_event_loop(None)
    loop.close()

"""Trees without a Dockerfile: a Dockerfile is made from package.json, requirements.txt and so on.

Each kind installs dependencies before the sources are copied, so that a changed line of code
installs nothing anew.
"""

import json
import re
import tomllib
from collections.abc import Callable

from gantry.builder.plan import BaseName, RejectedError, Target
from gantry.builder.tree import Tree
from gantry.contracts.device_types import Architecture

KINDS = ("package.json", "requirements.txt", "pyproject.toml", "go.mod")
"""What an application is recognised by; the first that is there counts."""
PYTHON_ENTRIES = ("main.py", "app.py", "server.py", "__main__.py")
NODE_ENTRIES = ("server.js", "index.js", "app.js", "main.js")
_GO_ARCHITECTURES = {
    Architecture.AARCH64: "GOARCH=arm64",
    Architecture.ARMV7HF: "GOARCH=arm GOARM=7",
    Architecture.RPI: "GOARCH=arm GOARM=6",
    Architecture.AMD64: "GOARCH=amd64",
}


def dockerfile_for(tree: Tree, folder: str, target: Target) -> tuple[str, str] | None:
    """`(file it is made from, Dockerfile)`, or None when no language is recognised.

    Raises:
        RejectedError: a language is recognised, but what to start is not; says what is missing.
    """
    makers: tuple[Callable[[Tree, str, Target], str], ...] = (
        _node,
        _python_requirements,
        _python_project,
        _go,
    )
    for name, make in zip(KINDS, makers, strict=True):
        if tree.is_file(tree.join(folder, name)):
            return tree.join(folder, name), make(tree, folder, target)
    return None


def _node(tree: Tree, folder: str, target: Target) -> str:
    path = tree.join(folder, "package.json")
    try:
        package = json.loads(tree.read(path))
        scripts, entry = dict(package.get("scripts") or {}), package.get("main")
    except (AttributeError, TypeError, ValueError) as error:
        raise RejectedError(f"{path} is not a package description: {error}") from error
    if "start" in scripts:
        command = '["npm", "start"]'
    else:
        entries = [entry] if isinstance(entry, str) else list(NODE_ENTRIES)
        present = [each for each in entries if tree.is_file(tree.join(folder, each))]
        if not present:
            raise RejectedError(
                f"{path} has no start script, and {' or '.join(entries)} is not there: "
                'add "scripts": {"start": …}'
            )
        command = json.dumps(["node", present[0]])
    locked = tree.is_file(tree.join(folder, "package-lock.json"))
    return f"""\
FROM {BaseName(target.architecture, "node").reference}
WORKDIR /usr/src/app
COPY package*.json ./
RUN npm {"ci" if locked else "install"} --omit=dev --no-audit --no-fund
COPY . ./
ENV NODE_ENV=production
CMD {command}
"""


def _python_requirements(tree: Tree, folder: str, target: Target) -> str:
    return f"""\
FROM {BaseName(target.architecture, "python").reference}
WORKDIR /usr/src/app
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY . ./
CMD {_python_entry(tree, folder)}
"""


def _python_project(tree: Tree, folder: str, target: Target) -> str:
    path = tree.join(folder, "pyproject.toml")
    try:
        scripts = tomllib.loads(tree.read(path)).get("project", {}).get("scripts", {})
    except (AttributeError, ValueError) as error:
        raise RejectedError(f"{path} is not a project description: {error}") from error
    command = json.dumps([next(iter(scripts))]) if scripts else _python_entry(tree, folder)
    return f"""\
FROM {BaseName(target.architecture, "python").reference}
WORKDIR /usr/src/app
COPY . ./
RUN pip install --no-cache-dir .
CMD {command}
"""


def _python_entry(tree: Tree, folder: str) -> str:
    for name in PYTHON_ENTRIES:
        if tree.is_file(tree.join(folder, name)):
            return json.dumps(["python3", "-u", "." if name == "__main__.py" else name])
    raise RejectedError(
        f"a Python application, but nothing to start in {folder}: name the file "
        f"{', '.join(PYTHON_ENTRIES)}, give pyproject.toml a [project.scripts] entry, "
        "or write a Dockerfile"
    )


def _go(tree: Tree, folder: str, target: Target) -> str:
    """Pure Go is compiled on the builder's own architecture; C needs the target's compiler."""
    # Blanks, not any space: a search over line ends would begin anew at each empty line.
    imports_c = re.compile(r'^[ \t]*(?:import\s+(\(\s*)?"C"|"C"[ \t\r]*$)', re.MULTILINE)
    sources = [each for each in tree.files(folder) if each.endswith(".go")]
    if any(imports_c.search(tree.read(each)) for each in sources):
        stage, build = (
            f"FROM {BaseName(target.architecture, 'golang').reference} AS build",
            "go build",
        )
    else:
        native = BaseName(target.native, "golang").reference
        stage = f"FROM --platform={target.native.platform} {native} AS build"
        build = f"CGO_ENABLED=0 {_GO_ARCHITECTURES[target.architecture]} go build"
    sums = " go.sum*" if tree.is_file(tree.join(folder, "go.sum")) else ""
    return f"""\
{stage}
WORKDIR /usr/src/app
COPY go.mod{sums} ./
RUN go mod download
COPY . ./
RUN {build} -trimpath -o /usr/local/bin/app .

FROM {BaseName(target.architecture, "raspios").reference}
COPY --from=build /usr/local/bin/app /usr/local/bin/app
CMD ["/usr/local/bin/app"]
"""

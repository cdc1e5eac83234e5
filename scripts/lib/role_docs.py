"""Tables and lists that are made from the roles, and the rules that no linter knows.

A role's variables are its argument specs; `defaults/main.yml` gives their values. This says where
the two differ, where a name lacks the role's prefix, and which variable nothing uses.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROLES = Path("roles")
PACKAGES = Path("images/raspberry-pi-os/packages.txt")
START, END = "<!-- variables -->", "<!-- /variables -->"
# Where a role may use its variables. README and specs only speak of them.
USED_IN = ("tasks", "handlers", "templates", "vars", "defaults", "meta/main.yml")


@dataclass(frozen=True, slots=True)
class Role:
    """A role's folder, with what its specs and defaults say."""

    path: Path
    options: dict[str, dict[str, Any]]
    defaults: dict[str, Any]

    @property
    def name(self) -> str:
        return self.path.name


class UnreadableError(Exception):
    """A file is no YAML; the message says where."""


def load(path: Path) -> Any:
    """A YAML file's content; {} where there is none.

    Raises:
        UnreadableError: it is no YAML.
    """
    try:
        return yaml.safe_load(path.read_text()) or {} if path.exists() else {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or error
        raise UnreadableError(f"{path}{line}: no YAML: {reason}") from error


def read_role(path: Path) -> Role:
    """A role from its folder; options are those of all entry points."""
    specs = load(path / "meta" / "argument_specs.yml").get("argument_specs", {})
    options: dict[str, dict[str, Any]] = {}
    for entry in specs.values():
        options |= entry.get("options", {})
    return Role(path, options, load(path / "defaults" / "main.yml"))


def problems(role: Role) -> Iterator[str]:
    """What is wrong with a role's variables, a line each."""
    specs, defaults = set(role.options), set(role.defaults)
    if not (role.path / "README.md").exists():
        yield "no README.md"
    for name in sorted(specs - defaults):
        if not role.options[name].get("required"):
            yield f"{name} is in meta/argument_specs.yml but not in defaults/main.yml"
    for name in sorted(defaults - specs):
        yield f"{name} is in defaults/main.yml but not in meta/argument_specs.yml"
    for name in sorted(specs | defaults):
        if not name.startswith(f"{role.name}_"):
            yield f"{name} lacks the prefix {role.name}_"
        if not used(role, name):
            yield f"{name} is used nowhere in the role"
    for name in sorted(internals(role)):
        if not name.startswith(f"__{role.name}_"):
            yield f"{name} is internal: name it __{role.name}_…"
        elif not used(role, name):
            yield f"{name} is used nowhere in the role"


def internals(role: Role) -> set[str]:
    """Variables that the role sets for itself: vars/ and registered results."""
    found = {name for path in (role.path / "vars").glob("*.yml") for name in load(path)}
    for path in (*role.path.glob("tasks/*.yml"), *role.path.glob("handlers/*.yml")):
        found |= set(re.findall(r"^\s*register: *(\w+)", path.read_text(), re.MULTILINE))
    return found


def used(role: Role, name: str) -> bool:
    """Whether the role speaks of a variable where it is not only set."""
    word = re.compile(rf"(?<![\w.]){name}\b(?!:)")
    for place in USED_IN:
        start = role.path / place
        for path in [start] if start.is_file() else sorted(start.rglob("*")):
            if not path.is_file():
                continue
            lines = path.read_text(errors="replace").splitlines()
            text = "\n".join(each for each in lines if not re.match(r"\s*register: ", each))
            if word.search(text):
                return True
    return False


def table(role: Role) -> str:
    """The variables of a role as Markdown."""
    if not role.options:
        return "None."
    rows = ["| variable | type | default | what it is for |", "|---|---|---|---|"]
    for name, option in sorted(role.options.items()):
        kind = option.get("type", "str")
        if option.get("elements"):
            kind = f"{kind} of {option['elements']}"
        text = cell(option.get("description", ""))
        if choices := option.get("choices"):
            text += f" One of {', '.join(f'`{each}`' for each in choices)}."
        default = "required" if option.get("required") else code(option.get("default"))
        rows.append(f"| `{name}` | {kind} | {default} | {text} |")
    return "\n".join(rows)


def cell(description: str | list[str]) -> str:
    """A description on one line, with Ansible's C(…) as code."""
    text = " ".join(description) if isinstance(description, list) else description
    text = re.sub(r"[CVO]\(([^)]*)\)", r"`\1`", " ".join(text.split()))
    return text.replace("|", "\\|")


def code(value: object) -> str:
    """A default as it is written in YAML."""
    if value is None:
        return ""
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n")
    text = text.strip()
    return f"`{text}`".replace("|", "\\|")


def readme(role: Role, old: str) -> str:
    """The README with its table made anew.

    Raises:
        ValueError: the README has no place for it.
    """
    if START not in old or END not in old:
        raise ValueError(f"no place for the table: put {START} and {END} on lines of their own")
    before, _, rest = old.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table(role)}\n{END}{after}"


def packages(roles: list[Role]) -> str:
    """What the test image has in it: the `<role>_packages` of all roles."""
    names: set[str] = set()
    for role in roles:
        names |= set(role.defaults.get(f"{role.name}_packages", []))
    return "".join(f"{name}\n" for name in sorted(names))


def wanted_files(roles: list[Role], say: list[str]) -> dict[Path, str]:
    """Every generated file with the content that it is to have."""
    files = {PACKAGES: packages(roles)}
    for role in roles:
        path = role.path / "README.md"
        if not path.exists():
            continue
        try:
            files[path] = readme(role, path.read_text())
        except ValueError as error:
            say.append(f"{path}: {error}")
    return files


def main(arguments: list[str]) -> int:
    """`--check` says what is stale or wrong and returns 1; without it, files are written."""
    if arguments not in ([], ["--check"]):
        print("use scripts/role-docs or scripts/role-docs --check", file=sys.stderr)
        return 2
    try:
        roles = [read_role(each.parent.parent) for each in sorted(ROLES.glob("*/tasks/main.yml"))]
        say = [f"{role.path}: {each}" for role in roles for each in problems(role)]
    except UnreadableError as error:
        print(error, file=sys.stderr)
        return 1
    for path, text in wanted_files(roles, say).items():
        if path.exists() and path.read_text() == text:
            continue
        if arguments:
            say.append(f"{path} is stale: run scripts/role-docs")
        else:
            path.write_text(text)
            print(f"wrote {path}")
    print("\n".join(say), end="\n" if say else "", file=sys.stderr)
    return 1 if say else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

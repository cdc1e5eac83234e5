"""scripts/role-docs: tables of variables, and what it finds wrong in a role."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PROGRAM = Path(__file__).parents[3] / "scripts/lib/role_docs.py"
README = "# disk\n\n## Variables\n<!-- variables -->\nold\n<!-- /variables -->\nafter\n"
SPECS = """
argument_specs:
  main:
    options:
      disk_path:
        description: Where it is. See C(/mnt) | more.
        type: path
        default: /mnt
      disk_kinds:
        description: [Which, "ones."]
        type: list
        elements: str
        choices: [a, b]
        default: [a]
"""


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, in a folder with a role that is in order."""
    spec = importlib.util.spec_from_file_location("role_docs", PROGRAM)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "role_docs", module)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    for folder in ("defaults", "meta", "tasks", "vars"):
        (tmp_path / "roles/disk" / folder).mkdir(parents=True)
    (tmp_path / "images/raspberry-pi-os").mkdir(parents=True)
    write("meta/argument_specs.yml", SPECS)
    write("defaults/main.yml", "disk_path: /mnt\ndisk_kinds: [a]\n")
    write("tasks/main.yml", '- debug: {msg: "{{ disk_path }} {{ disk_kinds }}"}\n')
    write("README.md", README)
    return module


def write(name: str, text: str) -> None:
    (Path("roles/disk") / name).write_text(text)


def said(docs: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert docs.main(list(arguments)) == 1
    return capsys.readouterr().err


def test_the_table(docs: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert "README.md is stale" in said(docs, capsys, "--check")
    assert Path("roles/disk/README.md").read_text() == README
    assert docs.main([]) == 0
    assert Path("roles/disk/README.md").read_text().splitlines()[3:8] == [
        "<!-- variables -->",
        "| variable | type | default | what it is for |",
        "|---|---|---|---|",
        "| `disk_kinds` | list of str | `[a]` | Which ones. One of `a`, `b`. |",
        "| `disk_path` | path | `/mnt` | Where it is. See `/mnt` \\| more. |",
    ]
    assert docs.main(["--check"]) == 0


def test_packages_of_all_roles(docs: ModuleType) -> None:
    write("meta/argument_specs.yml", SPECS + "      disk_packages: {type: list, elements: str}\n")
    write(
        "defaults/main.yml",
        "disk_path: /mnt\ndisk_kinds: [a]\ndisk_packages: [parted, dosfstools]\n",
    )
    write("tasks/main.yml", '- apt: {name: "{{ disk_packages + disk_path + disk_kinds }}"}\n')
    assert docs.main([]) == 0
    assert Path("images/raspberry-pi-os/packages.txt").read_text() == "dosfstools\nparted\n"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        (
            "defaults/main.yml",
            "disk_path: /mnt\n",
            "disk_kinds is in meta/argument_specs.yml but not in defaults/main.yml",
        ),
        (
            "defaults/main.yml",
            "disk_path: /mnt\ndisk_kinds: [a]\ndisk_size: 1\n",
            "disk_size is in defaults/main.yml but not in meta/argument_specs.yml",
        ),
        (
            "defaults/main.yml",
            "disk_path: /mnt\ndisk_kinds: [a]\nsize: 1\n",
            "size lacks the prefix disk_",
        ),
        ("tasks/main.yml", "- debug: {var: disk_path}\n", "disk_kinds is used nowhere in the role"),
        ("vars/main.yml", "disk_inner: 1\n", "disk_inner is internal: name it __disk_…"),
        ("vars/main.yml", "__disk_inner: 1\n", "__disk_inner is used nowhere in the role"),
        (
            "tasks/main.yml",
            '- debug: {msg: "{{ disk_path }}{{ disk_kinds }}"}\n  register: __disk_found\n',
            "__disk_found is used nowhere in the role",
        ),
        ("README.md", "# disk\n", "no place for the table"),
        ("vars/main.yml", "a: [b\n", "vars/main.yml:2: no YAML"),
    ],
)
def test_what_is_wrong_is_named(
    docs: ModuleType, capsys: pytest.CaptureFixture[str], name: str, text: str, problem: str
) -> None:
    assert docs.main([]) == 0
    write(name, text)
    assert problem in said(docs, capsys, "--check")


def test_wrong_use_is_said(docs: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert docs.main(["--fix"]) == 2
    assert "use scripts/role-docs" in capsys.readouterr().err

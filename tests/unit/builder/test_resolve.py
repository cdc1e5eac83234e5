"""What a pushed tree is resolved to."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gantry.builder.plan import BaseName, RejectedError, Target
from gantry.builder.resolve import resolve
from gantry.builder.tree import Tree
from gantry.contracts.device_types import Architecture, device_type

REGISTRY = "registry.devbots.gantry.internal:8443"
PI3 = Target(device_type("raspberrypi3-64"), 7, "admin/devbots", "c" * 40)


def tree(folder: Path, files: Mapping[str, str]) -> Tree:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Tree(folder)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["Dockerfile", "Dockerfile.template"], "Dockerfile.template"),
        (["Dockerfile.template", "Dockerfile.aarch64"], "Dockerfile.aarch64"),
        (["Dockerfile.aarch64", "Dockerfile.raspberrypi3-64"], "Dockerfile.raspberrypi3-64"),
        (["Dockerfile.armv7hf", "Dockerfile"], "Dockerfile"),
        (["Dockerfile", "package.json"], "Dockerfile"),
    ],
)
def test_the_most_specific_dockerfile_wins(tmp_path: Path, names: list[str], chosen: str) -> None:
    plan = resolve(tree(tmp_path, dict.fromkeys(names, "FROM scratch\n")), PI3, REGISTRY)
    assert [each.origin for each in plan.builds] == [chosen]


def test_a_template_is_filled_and_its_base_is_found(tmp_path: Path) -> None:
    text = (
        "FROM gantry/%%RESIN_ARCH%%-raspios:bookworm\n"
        "LABEL a=%%RESIN_MACHINE_NAME%%,%%BALENA_MACHINE_NAME%%,%%BALENA_ARCH%%\n"
        "LABEL b=%%BALENA_SERVICE_NAME%%,%%BALENA_APP_ID%%\n"
    )
    plan = resolve(tree(tmp_path, {"Dockerfile.template": text}), PI3, REGISTRY)
    [build] = plan.builds
    assert build.dockerfile is None
    assert "a=raspberrypi3-64,raspberrypi3-64,aarch64" in build.content
    assert "b=main,7" in build.content
    assert plan.bases == (BaseName(Architecture.AARCH64, "raspios"),)


def test_an_unknown_template_variable_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=r"%%NOPE%%.*%%RESIN_ARCH%%"):
        resolve(tree(tmp_path, {"Dockerfile.template": "FROM %%NOPE%%\n"}), PI3, REGISTRY)


def test_a_contract_lies_in_the_build_context(tmp_path: Path) -> None:
    compose = "services: {a: {build: ./a}, b: {build: ./b}}\n"
    contract = """
slug: "enforce"
name: "Enforce"
unknown: 5
requires:
  - type: "sw.l4t"
    version: 28.2
  - or:
      - {type: sw.os, slug: debian, name: "left out"}
      - {type: arch.sw, slug: rpi}
"""
    files = {
        "docker-compose.yml": compose,
        "a/Dockerfile": "FROM scratch\n",
        "a/contract.yml": contract,
        "b/Dockerfile": "FROM scratch\n",
    }
    a, b = resolve(tree(tmp_path, files), PI3, REGISTRY).builds
    assert b.contract is None
    assert a.contract == {
        "type": "sw.container",
        "slug": "enforce",
        "name": "Enforce",
        "requires": [
            {"type": "sw.l4t", "version": "28.2"},
            {"or": [{"type": "sw.os", "slug": "debian"}, {"type": "arch.sw", "slug": "rpi"}]},
        ],
    }


@pytest.mark.parametrize(
    ("contract", "reason"),
    [
        ("[", "contract.yml is not YAML"),
        ("", "contract.yml is None: an object is expected"),
        ("a: &a [x]\nrequires: [*a, *a]", "has an alias"),
        ("type: sw.os", "type is 'sw.os': write sw.container"),
        ("requires: all", "requires is 'all': a list of at most 100"),
        ("requires: [sw.os]", "requires is 'sw.os': an object is expected"),
        ("requires: [{version: 1}]", "a requirement's type is None: use sw.supervisor, sw.os"),
        ("requires: [{or: [{type: sw.x}]}]", "a requirement's type is 'sw.x': use"),
        ("requires: [{type: sw.os, slug: [a]}]", r"slug is \['a'\]: a text is expected"),
    ],
)
def test_a_contract_that_is_none_is_rejected(tmp_path: Path, contract: str, reason: str) -> None:
    files = {"Dockerfile": "FROM scratch\n", "contract.yml": contract}
    with pytest.raises(RejectedError, match=reason):
        resolve(tree(tmp_path, files), PI3, REGISTRY)


def test_an_application_without_composition_has_the_whole_board(tmp_path: Path) -> None:
    plan = resolve(tree(tmp_path, {"Dockerfile": "FROM scratch\n"}), PI3, REGISTRY)
    main = plan.composition["services"]["main"]
    assert main["privileged"] is True
    assert main["network_mode"] == "host"
    assert plan.composition["volumes"] == {"resin-data": {}}


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("gantry/aarch64-python:3.11", "python"),
        (f"{REGISTRY}/gantry/aarch64-node:18 AS build", "node"),
        ("--platform=linux/arm64 gantry/aarch64-golang:1.19", "golang"),
    ],
)
def test_bases_are_found_under_all_their_names(
    tmp_path: Path, reference: str, expected: str
) -> None:
    plan = resolve(tree(tmp_path, {"Dockerfile": f"FROM {reference}\n"}), PI3, REGISTRY)
    assert [each.name for each in plan.bases] == [expected]


def test_other_images_are_no_bases(tmp_path: Path) -> None:
    text = "# FROM gantry/rpi-raspios:bookworm\nFROM other/gantry/aarch64-raspios-x:1\n"
    assert resolve(tree(tmp_path, {"Dockerfile": text}), PI3, REGISTRY).bases == ()


def test_a_base_with_another_tag_is_rejected_with_the_right_one(tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=r"write gantry/aarch64-raspios:bookworm"):
        resolve(tree(tmp_path, {"Dockerfile": "FROM gantry/aarch64-raspios\n"}), PI3, REGISTRY)


def test_nothing_to_build_lists_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(RejectedError) as caught:
        resolve(tree(tmp_path, {"README.md": "", "src/x.c": ""}), PI3, REGISTRY)
    text = str(caught.value)
    for part in ("README.md, src/", "docker-compose.yml", "go.mod", "raspberrypi3-64", "aarch64"):
        assert part in text


def test_a_link_out_of_the_tree_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").symlink_to("/etc/passwd")
    with pytest.raises(RejectedError, match="leaves the pushed tree"):
        resolve(Tree(tmp_path), PI3, REGISTRY)


def test_nothing_to_build_says_what_there_is_and_what_is_accepted(tmp_path: Path) -> None:
    with pytest.raises(RejectedError) as rejected:
        resolve(tree(tmp_path, {"README.md": "", "src/x.c": ""}), PI3, REGISTRY)
    first, *kinds = str(rejected.value).splitlines()
    assert "nothing to build in the push, which has README.md, src" in first
    assert [each.split(" (")[0].strip() for each in kinds] == [
        "docker-compose.yml",
        "Dockerfile.raspberrypi3-64, Dockerfile.aarch64",
        "Dockerfile.template, Dockerfile",
        "package.json, requirements.txt, pyproject.toml, go.mod",
    ]


class TestLanguages:
    """Trees without a Dockerfile."""

    def test_python(self, tmp_path: Path) -> None:
        files = {"requirements.txt": "flask\n", "app.py": ""}
        plan = resolve(tree(tmp_path, files), PI3, REGISTRY)
        [build] = plan.builds
        assert build.content.startswith("FROM gantry/aarch64-python:3.11\n")
        assert 'CMD ["python3", "-u", "app.py"]' in build.content
        # Dependencies before sources: a changed line installs nothing.
        assert build.content.index("pip install") < build.content.index("COPY . ./")
        assert plan.bases == (BaseName(Architecture.AARCH64, "python"),)

    def test_python_project_with_a_script(self, tmp_path: Path) -> None:
        files = {"pyproject.toml": '[project]\nname = "x"\n[project.scripts]\nrobot = "x:main"\n'}
        [build] = resolve(tree(tmp_path, files), PI3, REGISTRY).builds
        assert 'CMD ["robot"]' in build.content

    def test_python_without_a_start_says_what_to_add(self, tmp_path: Path) -> None:
        with pytest.raises(RejectedError, match=r"main\.py"):
            resolve(tree(tmp_path, {"requirements.txt": ""}), PI3, REGISTRY)

    def test_node(self, tmp_path: Path) -> None:
        files = {"package.json": '{"scripts": {"start": "node x.js"}}', "package-lock.json": "{}"}
        [build] = resolve(tree(tmp_path, files), PI3, REGISTRY).builds
        assert "npm ci" in build.content
        assert 'CMD ["npm", "start"]' in build.content

    def test_broken_package_json(self, tmp_path: Path) -> None:
        with pytest.raises(RejectedError, match=r"package\.json"):
            resolve(tree(tmp_path, {"package.json": "[1"}), PI3, REGISTRY)

    def test_go_is_compiled_on_the_builders_own_architecture(self, tmp_path: Path) -> None:
        files = {"go.mod": "module x\n", "main.go": "package main\n"}
        plan = resolve(tree(tmp_path, files), PI3, REGISTRY)
        assert "GOARCH=arm64" in plan.builds[0].content
        assert {each.reference for each in plan.bases} == {
            "gantry/amd64-golang:1.19",
            "gantry/aarch64-raspios:bookworm",
        }

    def test_go_with_c_is_compiled_under_emulation(self, tmp_path: Path) -> None:
        files = {"go.mod": "module x\n", "main.go": 'package main\nimport "C"\n'}
        plan = resolve(tree(tmp_path, files), PI3, REGISTRY)
        assert plan.bases[0].reference == "gantry/aarch64-golang:1.19"


class TestCompositions:
    """docker-compose.yml."""

    def test_services_with_folders_of_their_own(self, tmp_path: Path) -> None:
        files = {
            "docker-compose.yml": (
                "services:\n  web: {build: ./web}\n"
                "  worker:\n    build: {context: worker, dockerfile: Worker, args: {A: 1}}\n"
            ),
            "web/Dockerfile.template": "FROM gantry/%%BALENA_ARCH%%-raspios:bookworm\n",
            "worker/Worker": "FROM gantry/aarch64-node:18\n",
        }
        plan = resolve(tree(tmp_path, files), PI3, REGISTRY)
        web, worker = plan.builds
        assert (web.context, web.dockerfile) == ("web", None)
        assert (worker.context, worker.dockerfile) == ("worker", "worker/Worker")
        assert worker.args == {"A": "1"}
        assert [each.name for each in plan.bases] == ["raspios", "node"]
        assert plan.services == ["web", "worker"]

    def test_an_image_of_another_architecture(self, tmp_path: Path) -> None:
        text = "services: {a: {image: 'gantry/rpi-raspios:bookworm'}}\n"
        with pytest.raises(RejectedError, match="raspberrypi3-64 is aarch64"):
            resolve(tree(tmp_path, {"docker-compose.yml": text}), PI3, REGISTRY)

    @pytest.mark.parametrize("context", ["../elsewhere", "missing", "/etc"])
    def test_a_context_outside_the_tree(self, tmp_path: Path, context: str) -> None:
        text = f"services: {{a: {{build: {context}}}}}\n"
        with pytest.raises(RejectedError):
            resolve(tree(tmp_path, {"docker-compose.yml": text}), PI3, REGISTRY)

"""What an image's tag depends on, and what it does not."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from gantry.builder import bases
from gantry.contracts.device_types import Architecture
from gantry.deployment import images

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in bases.BUNDLE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    recipes = {
        "debian": '[base]\nsuite = "trixie"\narch = ["amd64"]\n',
        "raspios": '[base]\nsuite = "bookworm"\narch = ["aarch64", "rpi", "amd64"]\n',
        "cloud": 'from = "debian"\ncontext = ["src"]\n',
        "supervisor": 'from = "raspios"\n',
        "device": 'from = "raspios"\narch = "amd64"\nplaybook = "images/device/playbook.yml"\n',
    }
    for name, recipe in recipes.items():
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        (folder / "recipe.toml").write_text(recipe)
        (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    (tmp_path / "images" / "device" / "playbook.yml").write_text("- hosts: all\n")
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    (tmp_path / "roles" / "journal" / "tasks").mkdir(parents=True)
    (tmp_path / "roles" / "journal" / "tasks" / "main.yml").write_text("- debug:\n")
    (tmp_path / "roles" / "journal" / "README.md").write_text("# journal\n")
    (tmp_path / "src" / "__pycache__").mkdir(parents=True)
    (tmp_path / "src" / "main.py").write_text("print()\n")
    return tmp_path


def test_names_bear_an_architecture_where_there_are_several(root: Path) -> None:
    def repository(name: str, arch: Architecture | None = None) -> str:
        return images.plan_image(name, root, arch).tag.split(":")[0]

    assert repository("debian") == "gantry/debian"
    assert repository("cloud") == "gantry/cloud"
    assert repository("raspios") == "gantry/raspios-amd64"
    assert repository("supervisor", Architecture.RPI) == "gantry/supervisor-rpi"
    assert repository("device") == "gantry/device"


def test_the_tag_follows_what_the_image_is_made_of(root: Path) -> None:
    before = images.plan_image("cloud", root)
    assert before.tag == f"gantry/cloud:{before.hash[:12]}"
    (root / "src" / "__pycache__" / "main.pyc").write_text("x")
    (root / "src" / "main.py").chmod(0o600)
    (root / "other.py").write_text("not in the context")
    assert images.plan_image("cloud", root) == before
    hashes = {before.hash}
    (root / "src" / "main.py").chmod(0o755)
    hashes.add(images.plan_image("cloud", root).hash)
    (root / "src" / "main.py").write_text("print(1)\n")
    hashes.add(images.plan_image("cloud", root).hash)
    (root / "images" / "cloud" / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nUSER 1\n")
    hashes.add(images.plan_image("cloud", root).hash)
    recipe = root / "images" / "debian" / "recipe.toml"
    recipe.write_text(recipe.read_text() + 'revision = "2"\n')
    hashes.add(images.plan_image("cloud", root).hash)
    assert len(hashes) == 5


def test_what_a_playbook_is_applied_with_decides_the_tag_and_is_not_sent_to_the_engine(
    root: Path,
) -> None:
    before = images.plan_image("device", root)
    (root / "roles" / "journal" / "README.md").write_text("# another text\n")
    assert images.plan_image("device", root) == before
    assert before.playbook is not None
    assert (before.playbook.root, before.playbook.path) == (root, "images/device/playbook.yml")
    with tarfile.open(fileobj=io.BytesIO(images.context_archive(before))) as members:
        assert members.getnames() == ["Dockerfile"]
    hashes = {before.hash}
    for path in ("images/device/playbook.yml", "ansible.cfg", "roles/journal/tasks/main.yml"):
        with (root / path).open("a") as file:
            file.write("# changed\n")
        hashes.add(images.plan_image("device", root).hash)
    (root / "roles" / "journal" / "defaults.yml").touch()
    hashes.add(images.plan_image("device", root).hash)
    assert len(hashes) == 5
    cloud = images.plan_image("cloud", root)
    (root / "roles" / "journal" / "defaults.yml").unlink()
    assert images.plan_image("cloud", root) == cloud


def test_the_bundle_of_the_host_makes_another_base(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = images.plan_image("cloud", root).hash
    (root / "bundle.pem").write_text(CERTIFICATE.format("AAAA"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(root / "bundle.pem"))
    assert images.plan_image("cloud", root).hash != before
    monkeypatch.setenv("SSL_CERT_FILE", str(root / "nowhere.pem"))
    with pytest.raises(bases.BaseError, match=r"SSL_CERT_FILE=.*nowhere\.pem names no file"):
        images.plan_image("cloud", root)


def test_a_pattern_takes_files_of_its_folder_alone(root: Path) -> None:
    (root / "src" / "below").mkdir()
    for name in ("one.py", "two.py", "notes.md", "below/three.py"):
        (root / "src" / name).write_text("")
    found = [each.path for each in images.context_files(root, ["src/*.py"])]
    assert found == ["src/main.py", "src/one.py", "src/two.py"]


def test_the_context_is_the_same_bytes_each_time(root: Path) -> None:
    plan = images.plan_image("cloud", root)
    archive = images.context_archive(plan)
    assert archive == images.context_archive(images.plan_image("cloud", root))
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        assert members.getnames() == ["src/main.py", "Dockerfile"]


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ('from = "nothing"', "no images/nothing/recipe.toml: the recipes are cloud, debian"),
        ('context = ["src"]', "no `from`"),
        ('from = "debian"\ncolour = "red"', "unknown keys colour"),
        ('from = "debian"\ncontext = ["gone"]', "context path 'gone' is not in the repository"),
        ('from = "debian"\ncontext = ["../.."]', "is not in the repository"),
        ('from = "debian"\ncontext = ["src/*.gone"]', "context path 'src/*.gone' is not in"),
        ('from = "debian"\nplaybook = "gone.yml"', "path 'gone.yml' is not in the repository"),
        ('from = "raspios"\narch = "armv7hf"', "base raspios is not made for armv7hf"),
        ("from = ", "images/cloud/recipe.toml: "),
    ],
)
def test_wrong_recipes_are_named(root: Path, recipe: str, message: str) -> None:
    (root / "images" / "cloud" / "recipe.toml").write_text(recipe)
    with pytest.raises(images.ImageError) as failure:
        images.plan_image("cloud", root)
    assert message in str(failure.value)


def test_an_image_for_one_architecture_is_not_made_for_another(root: Path) -> None:
    with pytest.raises(images.ImageError, match="is made for amd64 only, not for rpi"):
        images.plan_image("device", root, Architecture.RPI)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("[base]\nsuite = 'x'\narch = ['mips']", "'mips' is not a valid Architecture"),
        ("[base]\nsuite = 'x'", r"lacks the key 'arch'"),
        ("[base]\nsuite = 'x'\narch = []\nsize = 1", "unknown keys in .base.: size"),
        ("from = 'x'", "has no .base. table"),
    ],
)
def test_wrong_base_recipes_are_named(tmp_path: Path, recipe: str, message: str) -> None:
    (tmp_path / "recipe.toml").write_text(recipe)
    with pytest.raises(bases.BaseError, match=message):
        bases.read_recipe(tmp_path / "recipe.toml")


def test_the_configuration_says_the_architecture(tmp_path: Path) -> None:
    recipe = bases.BaseRecipe("raspios", "bookworm", tuple(Architecture), (), {"LANG": "C.UTF-8"})
    config = bases.image_config(recipe, Architecture.RPI, ["sha256:0"], trust=False)
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm", "v6")
    assert "LANG=C.UTF-8" in config["config"]["Env"]
    assert "CERT" not in json.dumps(config)
    config = bases.image_config(recipe, Architecture.AARCH64, ["sha256:0"], trust=True)
    assert (config["architecture"], "variant" in config) == ("arm64", False)
    assert "PIP_CERT=/etc/ssl/certs/ca-certificates.crt" in config["config"]["Env"]


def test_only_the_hosts_own_certificates_are_added(tmp_path: Path) -> None:
    own = CERTIFICATE.format("AAAA").encode()
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("# a comment\n" + CERTIFICATE.format("AAAA") + CERTIFICATE.format("BBBB"))
    extra = bases.extra_certificates(own, bundle)
    assert extra == [CERTIFICATE.format("BBBB")]
    assert bases.extra_certificates(own, None) == []
    with tarfile.open(fileobj=io.BytesIO(bases.overlay_layer(extra, own))) as layer:
        content = layer.extractfile("etc/ssl/certs/ca-certificates.crt")
        assert content is not None
        assert content.read().decode() == CERTIFICATE.format("AAAA") + extra[0]
        assert "usr/local/share/ca-certificates/host-0.crt" in layer.getnames()
        assert layer.getmember("usr/sbin/policy-rc.d").mode == 0o755
    with tarfile.open(fileobj=io.BytesIO(bases.overlay_layer([], own))) as layer:
        assert not [name for name in layer.getnames() if "cert" in name]

"""Looking at a tree, and what its changes mean."""

import os
from pathlib import Path

import pytest

from gantry.builder.plan import BuildPlan, ServiceBuild
from gantry.client.errors import UsageError
from gantry.local.dockerfile_copies import copies
from gantry.local.livesync import Changes, Rebuild, Sync, decide
from gantry.local.target import environment_of, image_name, local_state
from gantry.local.watch import difference, snapshot
from gantry.supervisor.local_target import local_document, read_local

DOCKERFILE = """FROM base
WORKDIR /app
COPY requirements.txt ./
RUN pip install -r requirements.txt
COPY src ./src
COPY start /usr/bin
"""


def decided(changes: Changes) -> Rebuild | Sync | None:
    return decide(
        changes,
        copies(DOCKERFILE, None, "/app"),
        {"Dockerfile", ".dockerignore"},
        lambda path: path == "/usr/bin",
    )


def test_code_is_copied_and_what_is_gone_is_removed() -> None:
    changes = Changes(("src/a.py", "start", "README.md"), ("src/old/b.py",))
    assert decided(changes) == Sync(
        (("src/a.py", "/app/src/a.py"), ("start", "/usr/bin/start")), ("/app/src/old/b.py",)
    )


@pytest.mark.parametrize("path", ["Dockerfile", ".dockerignore", "requirements.txt"])
def test_what_says_how_it_is_built_builds_anew(path: str) -> None:
    for changes in (Changes((path, "src/a.py")), Changes((), (path,))):
        decision = decided(changes)
        assert isinstance(decision, Rebuild)
        assert path in decision.reason


def test_what_no_image_holds_changes_nothing() -> None:
    assert decided(Changes(("README.md",), ("docs/a.md",))) is None


def test_a_tree_is_seen_as_a_build_sees_it(tmp_path: Path) -> None:
    for name in ("a.py", "node_modules/x.js", "keep.log", "b.log", ".git/HEAD", ".a.py.swp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    (tmp_path / "link").symlink_to("a.py")
    (tmp_path / ".dockerignore").write_text("# what not\nnode_modules\n*.log\n!keep.log\n")
    before = snapshot(tmp_path)
    assert set(before) == {".dockerignore", "a.py", "keep.log", "link"}

    (tmp_path / "a.py").write_text("other")
    os.utime(tmp_path / "a.py", ns=(1, 1))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "c.py").write_text("")
    (tmp_path / "keep.log").unlink()
    (tmp_path / "b.log").write_text("not seen")
    assert difference(before, snapshot(tmp_path)) == Changes(("a.py", "new/c.py"), ("keep.log",))
    assert not difference(before, before)


def test_a_mode_is_a_change(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    before = snapshot(tmp_path)
    (tmp_path / "run").chmod(0o755)
    assert difference(before, snapshot(tmp_path)) == Changes(("run",))


def test_variables_by_service() -> None:
    found = environment_of(["A=1", "web:B=x=y", "db:A="], ["web", "db"])
    assert found == {"web": {"A": "1", "B": "x=y"}, "db": {"A": ""}}
    for wrong in ("A", "=1", "web:=1", "nobody:A=1"):
        with pytest.raises(UsageError, match="--env"):
            environment_of([wrong], ["web", "db"])


def test_a_local_state_is_what_the_supervisor_reads() -> None:
    contract = {"type": "sw.container", "requires": [{"type": "arch.sw", "slug": "aarch64"}]}
    build = ServiceBuild("Web", ".", "Dockerfile", "FROM base", "Dockerfile", contract=contract)
    composition = {
        "services": {"Web": {"environment": {"A": "1", "B": "2"}, "restart": "no"}},
        "volumes": {"kept": {}},
        "networks": {},
    }
    image = image_name("Web", "sha256:0123456789abcdef")
    state = local_state(
        {"local": {"name": "crane", "config": {"X": "1"}, "apps": {"1": {"old": True}}}},
        BuildPlan((build,), (), (), composition),
        {"Web": image},
        {"Web": {"B": "3"}},
    )
    target = read_local(state, ())
    assert (target.name, dict(target.config)) == ("crane", {"X": "1"})
    (app,) = target.apps
    assert (app.id, app.uuid, app.name) == (1, "1", "localapp")
    assert app.release is not None
    (service,) = app.release.services
    assert service.image == "gantry-local/web:0123456789ab"
    assert service.environment == {"A": "1", "B": "3"}
    assert service.composition == {"restart": "no"}
    assert service.contract == contract
    assert read_local(local_document(target), ()) == target  # as it is kept over a loss of power
    assert app.release.volumes == {"kept": {}}

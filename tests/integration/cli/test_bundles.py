"""`gantry bundle` before a real api: which release is meant, and what is said when it cannot be
had. Bundles themselves are made and applied in tests/integration/supervisor."""

from pathlib import Path

from tests.integration.api.conftest import Fleet
from tests.integration.cli.conftest import DeviceOfTests, Operator


def test_a_release_is_found_by_all_its_names(
    operator: Operator, robots: Fleet, device: DeviceOfTests
) -> None:
    assert "has no release to run yet" in _refused(operator, 3, "create", "robots")
    first, second = robots.release(), robots.release()
    slug = str(robots.application["slug"])
    commit = str(first["commit"])
    # All but the registry is here: the target, the device's variables, the token's owner.
    for what in (
        "robots",
        slug,
        f"robots/{commit[:12]}",
        f"{slug}/{commit}",
        f"robots/{second['release_id']}",
    ):
        assert "registry." in _refused(operator, 5, "create", what), what
    operator.run("env", "set", "NAME=own", "--device", device.name)
    assert "registry." in _refused(operator, 5, "create", "robots", "--device", device.name)
    assert "has no finished release" in _refused(operator, 3, "create", "robots/nothing")
    assert "no application" in _refused(operator, 3, "create", "nobody/nothing")
    assert "is not APP" in _refused(operator, 2, "create", "a/b/c/d")
    assert not list(operator.home.glob("*.gantry-bundle*"))


def test_what_is_no_bundle_is_not_sent(operator: Operator, tmp_path: Path) -> None:
    path = tmp_path / "x.gantry-bundle"
    path.write_bytes(b"x" * 100)
    assert "is no bundle" in _refused(operator, 1, "apply", str(path), "192.0.2.1")
    assert "is no bundle" in _refused(operator, 1, "show", str(path))
    assert "cannot be read" in _refused(operator, 1, "show", str(tmp_path / "none"))


def _refused(operator: Operator, code: int, *arguments: str) -> str:
    ended = operator.ended("bundle", *arguments)
    assert ended.returncode == code, f"{ended.returncode}: {ended.stderr}"
    assert "Traceback" not in ended.stderr
    return ended.stderr

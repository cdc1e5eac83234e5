"""The configuration, read in full by the service and in part by the short-lived programs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gantry.configuration import ConfigError
from gantry.git.config import load_config
from gantry.git.settings import SettingsError, load_settings

GOOD = {
    "fleet": "devbots",
    "host": "devbots.gantry.internal",
    "https_port": 8443,
    "git_port": 2222,
    "api_url": "http://api:8080",
    "builder_url": "http://builder:8080",
    "service_key": "0123456789abcdef",
}


def written(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "git.json"
    path.write_text(json.dumps({**GOOD, **changes}))
    return path


def test_both_readers_agree(tmp_path: Path) -> None:
    config, settings = load_config(written(tmp_path)), load_settings(written(tmp_path))
    for name in type(settings).__slots__:
        assert getattr(config, name) == getattr(settings, name), name


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": 1}, "colour: Extra inputs"),
        ({"git_port": 70000}, "git_port: Input should be less than or equal to 65535"),
        ({"api_url": "api:8080"}, "api_url: String should match"),
        ({"service_key": "short-secret"}, "service_key: String should have at least 16"),
        ({"max_push_bytes": 1}, "max_push_bytes"),
    ],
)
def test_a_fault_is_named_and_no_value_shown(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(written(tmp_path, **changes))
    assert words in str(caught.value)
    assert "short-secret" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    for load in (load_config, load_settings):
        with pytest.raises((ConfigError, SettingsError), match=r"none\.json"):
            load(tmp_path / "none.json")


@pytest.mark.parametrize("module", ["keys", "shell", "hook", "health"])
def test_what_runs_at_each_login_is_light(module: str) -> None:
    """No package outside the standard library, and none of its slow ones."""
    source = Path(__file__).parents[3] / "src"
    program = (
        f"import sys; sys.path.insert(0, {str(source)!r}); import gantry.git.{module}; "
        "heavy = {'asyncio', 'pydantic', 'httpx2', 'urllib.request'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

"""The configuration file."""

import json
from pathlib import Path

import pytest

from gantry.configuration import ConfigError
from gantry.logs.config import load

GOOD = {
    "fleet": "devbots",
    "host": "devbots.gantry.internal",
    "https_port": 8443,
    "api_url": "http://api:8080",
    "service_key": "s3cret-" * 4,
    "nats_url": "nats://nats:4222",
    "nats_token": "t0ken",
}


def written(folder: Path, fields: object) -> Path:
    path = folder / "logs.json"
    path.write_text(json.dumps(fields))
    return path


def test_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANTRY_CONFIG", str(written(tmp_path, GOOD)))
    config = load()
    assert config.retention_lines == 5000
    assert config.retention_days == 30
    assert "t0ken" not in repr(config)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"service_key": "short-one"}, "service_key"),
        ({"retention_lines": 0}, "retention_lines"),
        ({"retention_day": 3}, "retention_day: Extra"),
        ({"nats_url": "http://nats"}, "nats_url"),
    ],
)
def test_faults_are_named_without_their_values(
    tmp_path: Path, change: dict[str, object], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault) as caught:
        load(written(tmp_path, GOOD | change))
    assert "short-one" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load(tmp_path / "none.json")

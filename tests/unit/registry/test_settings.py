"""The collector's settings, and how little it is while it waits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gantry.registry.settings import Settings, SettingsError, load

FIELDS = {
    "api_url": "http://api:8080",
    "registry_url": "http://registry:5000",
    "deltas_url": "http://deltas:8080",
    "service": "registry.bots.example.org",
    "deltas_service": "delta.bots.example.org",
    "service_key": "a-secret-key",
    "folder": "/var/lib/registry",
    "storage": None,
}


def write(folder: Path, fields: object) -> Path:
    file = folder / "collector.json"
    file.write_text(json.dumps(fields))
    return file


def test_what_infra_writes_is_read(tmp_path: Path) -> None:
    found = load(write(tmp_path, FIELDS))
    assert isinstance(found, Settings)
    assert (found.folder, found.storage) == (Path("/var/lib/registry"), None)
    assert found.alive == Path("/run/gantry/alive")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (FIELDS | {"colour": "blue"}, "colour"),
        ({key: FIELDS[key] for key in FIELDS if key != "service"}, "service"),
        ([], "not a collector's configuration"),
        (None, "not a collector's configuration"),
    ],
)
def test_a_wrong_file_is_told_without_its_secrets(
    tmp_path: Path, fields: object, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        load(write(tmp_path, fields))
    assert "a-secret-key" not in str(caught.value)
    with pytest.raises(SettingsError, match="cannot be read"):
        load(tmp_path / "none.json")


def test_while_it_waits_it_has_nothing_but_the_standard_library() -> None:
    program = (
        "import sys, gantry.registry.__main__\n"
        "print(*sorted({each.partition('.')[0] for each in sys.modules}))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    heavy = {"boto3", "botocore", "yaml", "pydantic", "httpx2", "asyncio", "concurrent"}
    assert not heavy & set(told.stdout.split())

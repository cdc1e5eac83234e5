"""What commands make of what they are given and print."""

import io
import json
from dataclasses import replace
from datetime import datetime

import pytest
from rich.console import Console

from gantry.cli.devices import COLUMNS, _watched_row, release_text
from gantry.cli.env import _pair
from gantry.cli.fleets import scp_form, ssh_form
from gantry.cli.logs import moment_ms
from gantry.cli.output import table_of
from gantry.cli.stack import as_fields, flat
from gantry.client.errors import UsageError
from gantry.client.records import Application, Device, FleetConfig
from gantry.deployment.engine.plan import Change, Op, Step
from gantry.deployment.engine.values import secret

DEVICE = Device(
    id=1,
    name="quiet-crane",
    uuid="a" * 32,
    application="admin/devbots",
    device_type="raspberrypi3-64",
    is_online=True,
    status="operational",
    progress=None,
    commit="1a2b3c4d5e6f",
    target_commit="1a2b3c4d5e6f",
    ip_address=None,
    os_version=None,
    supervisor_version=None,
    last_seen=None,
    tags={},
)


def test_releases_of_a_device() -> None:
    assert release_text(DEVICE) == "1a2b3c4"
    assert release_text(replace(DEVICE, target_commit="99887766")) == "1a2b3c4 → 9988776"
    rejected = replace(DEVICE, target_commit="99887766", update_status="rejected")
    assert release_text(rejected) == "1a2b3c4 → 9988776 rejected"
    assert release_text(replace(DEVICE, commit=None)) == "none → 1a2b3c4"
    assert release_text(replace(DEVICE, commit=None, target_commit=None)) == ""


def test_git_remotes() -> None:
    application = Application(1, "bots", "ann/bots", "b" * 32, "intel-nuc", 0, 0, None)
    config = FleetConfig("devbots", "devbots.gantry.internal", 2222, "", "", "", "")
    assert scp_form(application, config) == "ann@devbots.gantry.internal:ann/bots.git"
    expected = "ssh://ann@devbots.gantry.internal:2222/ann/bots.git"
    assert ssh_form(application, config) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("30s", 970_000), ("10m", 400_000), ("1970-01-01T00:00:01+00:00", 1000)],
)
def test_since(text: str, expected: int) -> None:
    assert moment_ms(text, 1000) == expected


def test_since_without_a_zone_is_local() -> None:
    expected = datetime(2026, 5, 1, 12, 0).astimezone().timestamp() * 1000
    assert moment_ms("2026-05-01T12:00", 0) == expected


@pytest.mark.parametrize("text", ["", "10", "10y", "yesterday", "9999999999-01-01"])
def test_since_what(text: str) -> None:
    with pytest.raises(UsageError, match="--since"):
        moment_ms(text, 0)


def test_assignments() -> None:
    assert _pair("A=b=c") == ("A", "b=c")
    assert _pair("A=") == ("A", "")
    for wrong in ("A", "=b"):
        with pytest.raises(UsageError, match="NAME=VALUE"):
            _pair(wrong)


def test_a_watched_device_has_a_bar_while_it_downloads() -> None:
    out = Console(width=150, file=io.StringIO(), record=True, color_system=None)
    rows = [_watched_row(DEVICE), _watched_row(replace(DEVICE, name="[b]", progress=50))]
    out.print(table_of(COLUMNS, rows))
    _, resting, loading = out.export_text().splitlines()
    assert resting.rstrip().endswith("operational")
    assert "[b]" in loading
    assert "━" * 10 in loading


def test_outputs_have_a_row_for_each_part() -> None:
    outputs = {"urls": {"logs": "l", "api": "a"}, "git_port": 2222, "ca": "PEM\n"}
    assert flat(outputs) == [
        ("ca", "PEM"),
        ("git_port", "2222"),
        ("urls.api", "a"),
        ("urls.logs", "l"),
    ]


def test_steps_for_programs_hold_no_secret() -> None:
    change = Change("env", secret("hush"), "plain")
    step = Step(Op.UPDATE, "urn::container::api", "docker:x", (change,))
    shown = as_fields(step)
    assert "hush" not in json.dumps(shown)
    assert (shown["op"], shown["name"]) == ("update", "api")
    assert shown["changes"][0]["new"] == "plain"

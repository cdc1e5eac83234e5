"""`gantry query` and `gantry audit`, before a real api."""

import csv
import io
import json

from .conftest import DeviceOfTests, Fleet, Operator


def test_any_query_as_json_and_as_csv(operator: Operator, device: DeviceOfTests) -> None:
    question = "device?$select=uuid,device_name&$orderby=id"
    wanted = [{"uuid": device.uuid, "device_name": device.name}]
    ended = operator.ended("query", question)
    assert ended.stderr.splitlines()[-1] == "1 rows"
    assert json.loads(ended.stdout) == wanted
    text = operator.run("query", question, "--format", "csv")
    assert list(csv.DictReader(io.StringIO(text))) == wanted
    assert operator.run("query", "device/$count").strip() == "1"


def test_more_rows_than_a_page_has(operator: Operator, robots: Fleet) -> None:
    device = robots.register()
    for number in range(1005):
        tag = {"device": device.id, "tag_key": f"key{number:04}", "value": "a\r\nb"}
        assert robots.user.post("/v7/device_tag?returnResource=false", json=tag).is_success
    question = f"device_tag?$select=tag_key,value&$orderby=tag_key&$filter=device eq {device.id}"
    wanted = [{"tag_key": f"key{number:04}", "value": "a\r\nb"} for number in range(1005)]
    ended = operator.ended("query", question)
    assert ended.stderr.splitlines()[-1] == "1005 rows"
    assert json.loads(ended.stdout) == wanted
    file = operator.home / "tags.csv"
    ended = operator.ended("query", question, "--format", "csv", "--out", str(file))
    assert (ended.stdout, ended.stderr.splitlines()[-1]) == ("", f"1005 rows: {file}")
    with file.open(newline="") as text:
        assert list(csv.DictReader(text)) == wanted


def test_a_wrong_query_is_told_in_a_line(operator: Operator, device: DeviceOfTests) -> None:
    ended = operator.ended("query", "device?$filter=speed eq 5")
    assert ended.returncode == 1
    assert "device has no 'speed'" in ended.stderr
    assert operator.ended("query", "no_such_thing").returncode == 3


def test_who_changed_what(operator: Operator, device: DeviceOfTests) -> None:
    operator.ended("tag", "set", device.name, "room=lab")
    text = operator.run("audit", "--resource", "device_tag")
    assert "device_tag room" in text
    assert "create" in text
    assert "lab" not in text.replace("value=(left out)", "")
    [entry] = operator.json("audit", "--resource", "device_tag")
    assert entry["who"].startswith("user ")
    assert entry["changes"]["tag_key"] == "room"
    assert len(operator.json("audit", "--count", "1")) == 1

"""Following over connections that break in every place."""

import json
from typing import Any

import pytest

from gantry.cli import log_follow
from gantry.cli.log_follow import Selection, follow, history
from gantry.client.api_client import ApiClient
from gantry.client.errors import ClientError, NotFoundError
from gantry.client.log_line import read_line
from tests.unit.conftest import answer

from .test_texts import DEVICE

PATH = f"/device/v2/{DEVICE.uuid}/logs"


def line(cursor: int, service: str = "main") -> dict[str, Any]:
    return {
        "timestamp": cursor,
        "message": f"line {cursor}",
        "serviceName": service,
        "cursor": cursor,
    }


class Log:
    """The log service's endpoint, whose streams end after so many bytes."""

    def __init__(self, server: Any) -> None:
        self.lines = [line(number) for number in range(1, 11)]
        self.stream_bytes: list[int] = []
        self.refuse_after = 100
        self.streams = 0
        server.answers[PATH] = self._answer
        server.answers["/v7/service"] = answer(200, {"d": [{"id": 3, "service_name": "web"}]})

    def _answer(self, handler: Any) -> None:
        query = dict(pair.split("=") for pair in handler.path.partition("?")[2].split("&"))
        if "stream" not in query:
            count = len(self.lines) if query["count"] == "all" else int(query["count"])
            answer(200, self.lines[-count:] if count else [])(handler)
            return
        self.streams += 1
        if self.streams > self.refuse_after:
            answer(404, {"error": "no such device"})(handler)
            return
        if self.streams == 1:
            self.lines += [line(number) for number in range(11, 31)]
        wanted = [each for each in self.lines if each["cursor"] > int(query["after"])]
        body = b"\n" + b"".join(json.dumps(each).encode() + b"\n" for each in wanted)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body) + 1))  # and then it breaks
        handler.end_headers()
        length = self.stream_bytes.pop(0) if self.stream_bytes else len(body)
        handler.wfile.write(body[:length])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follow, "FIRST_PAUSE", 0.01)


@pytest.mark.parametrize("step", [1, 70, 83, 150, 300])
def test_each_line_once_and_in_order(server: Any, step: int) -> None:
    log = Log(server)
    log.stream_bytes = [step, 0, 2 * step, 3 * step]
    said: list[str] = []
    with ApiClient(server.url, "token") as client:
        lines = follow(client, DEVICE, Selection(count=5), said.append)
        found = [next(lines).cursor for _ in range(25)]
        lines.close()  # type: ignore[attr-defined]
    assert found == list(range(6, 31))
    assert log.streams >= 2
    assert said


def test_a_refusal_ends_it(server: Any) -> None:
    log = Log(server)
    log.refuse_after = 1
    found: list[int] = []

    def read(client: ApiClient) -> None:
        for each in follow(client, DEVICE, Selection(count=0), lambda _: None):
            found.append(each.cursor)

    with ApiClient(server.url, "token") as client, pytest.raises(NotFoundError):
        read(client)
    assert found == list(range(11, 31))


def test_the_last_lines_of_a_service_may_be_far_back(server: Any) -> None:
    log = Log(server)
    log.lines += [line(number, "other") for number in range(11, 20)]
    with ApiClient(server.url, "token") as client:
        found = history(client, DEVICE, Selection(count=2, service="main"))
    assert [each.cursor for each in found] == [9, 10]


def test_names_of_services() -> None:
    parse = log_follow.parse
    names = {3: "web"}
    assert parse(line(1), names).service == "main"
    assert parse(line(1, "") | {"serviceId": 3}, names).service == "web"
    assert parse(line(1, "") | {"serviceId": 12}, names).service == "service 12"
    assert parse(line(1, ""), names).service == ""


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([], r"\[\] is no object: is it of Gantry"),
        (line(1) | {"timestamp": "noon"}, "noon"),
        (line(1) | {"serviceName": "", "serviceId": []}, "serviceId"),
        ({"message": "m", "timestamp": 1}, "without a cursor: 'm'"),
    ],
)
def test_what_is_no_line_of_the_log_service_is_said(sent: object, said: str) -> None:
    with pytest.raises(ClientError, match=said):
        log_follow.parse(sent, {})


def test_a_supervisors_own_stream_tells_less() -> None:
    read = read_line({"message": "Streaming logs", "isSystem": True, "serviceId": 3})
    assert (read.timestamp, read.message, read.service) == (0, "Streaming logs", "")
    assert (read.is_system, read.is_error, read.cursor) == (True, False, 0)
